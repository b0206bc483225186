"""The official client against a real server."""

import json
import math
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import httpx2 as httpx
import openai
import pytest
import torch

from steadyrl.engines.driver import generate_all
from steadyrl.engines.protocol import Request, Sampling
from steadyrl.gateway.limits import LimitSettings
from steadyrl.policies.policy import Policy
from tests.gateway.serving import MODEL, Served, local_engine, make_app, served
from tests.rollout.fakes import ScriptedEngine

TOOL = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {}}},
}
USER = [{"role": "user", "content": "3+4="}]


def scripted(prompt: str, number: int, call: int) -> str:
    """What the model writes: a tool call, a long text, or the number of the answer."""
    question = prompt.rpartition("<|user|>")[2].removesuffix("<|assistant|>")
    if question == "call":
        return '{"name": "add", "arguments": {"b": 4, "a": 3}}'
    if question == "long":
        return "one two three four..."
    return f"answer {number} to {question}"


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(make_app(ScriptedEngine(scripted))) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Served) -> Any:
    return server.client()


def ask(client: Any, text: str, **options: Any) -> Any:
    messages = [{"role": "user", "content": text}]
    return client.chat.completions.create(model=MODEL, messages=messages, **options)


def test_an_answer_has_text_usage_and_reason(client: Any) -> None:
    reply = ask(client, "hi")

    assert reply.choices[0].message.content == "answer 0 to hi"
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.completion_tokens == len("answer 0 to hi") + 1
    assert reply.usage.prompt_tokens == len("hi") + 2


def test_several_answers_have_their_own_choices(client: Any) -> None:
    reply = ask(client, "hi", n=3)

    assert [c.message.content for c in reply.choices] == [f"answer {i} to hi" for i in range(3)]
    assert [choice.index for choice in reply.choices] == [0, 1, 2]


def test_a_stream_adds_up_to_the_answer(client: Any) -> None:
    chunks = list(ask(client, "x" * 100, stream=True, stream_options={"include_usage": True}))

    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "answer 0 to " + "x" * 100
    assert chunks[-1].usage.total_tokens > 100
    assert chunks[-2].choices[0].finish_reason == "stop"


def test_a_tool_call_is_read_from_the_answer(client: Any) -> None:
    reply = ask(client, "call", tools=[TOOL])
    (call,) = reply.choices[0].message.tool_calls

    assert reply.choices[0].finish_reason == "tool_calls"
    assert call.function.name == "add"
    assert json.loads(call.function.arguments) == {"a": 3, "b": 4}
    assert reply.choices[0].message.content is None


def test_a_tool_call_is_streamed(client: Any) -> None:
    chunks = list(ask(client, "call", tools=[TOOL], stream=True))
    calls = [c for chunk in chunks for c in chunk.choices[0].delta.tool_calls or []]

    assert [call.function.name for call in calls] == ["add"]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_without_tools_a_call_is_text(client: Any) -> None:
    assert ask(client, "call").choices[0].message.content.startswith('{"name"')


def test_a_stop_string_ends_text_and_tokens(client: Any) -> None:
    reply = ask(client, "long", stop=["three", " two"], logprobs=True)

    assert reply.choices[0].message.content == "one"
    assert reply.choices[0].finish_reason == "stop"
    assert [t.token for t in reply.choices[0].logprobs.content] == list("one two")
    assert reply.usage.completion_tokens == len("one two")


def test_an_answer_without_end_token_has_the_reason_length(client: Any) -> None:
    assert ask(client, "long").choices[0].finish_reason == "length"


def test_logprobs_are_those_of_the_engine(client: Any) -> None:
    content = ask(client, "hi", logprobs=True).choices[0].logprobs.content

    assert [t.token for t in content] == list("answer 0 to hi")
    steps = [a.logprob - b.logprob for a, b in pairwise(content)]
    assert all(math.isclose(step, 1.0) for step in steps)


def test_raw_prompts_are_completed(client: Any) -> None:
    text = client.completions.create(model=MODEL, prompt="abc", logprobs=1, n=2)
    ids = client.completions.create(model=MODEL, prompt=[20, 21])

    assert [choice.text for choice in text.choices] == ["answer 0 to abc", "answer 1 to abc"]
    assert text.choices[0].logprobs.tokens == list("answer 0 to abc")
    assert ids.usage.prompt_tokens == 2


def test_models_are_listed(client: Any) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL


def test_health_and_metrics_answer(server: Served, client: Any) -> None:
    ask(client, "hi")

    assert server.get("/health").json() == {"status": "ok"}
    lines = dict(line.split() for line in server.get("/metrics").text.splitlines())
    assert float(lines["steadyrl_completion_tokens_total"]) > 0
    assert lines["steadyrl_policy_version"] == "7"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1}, "temperature: Input should be greater than or equal to 0"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"top_logprobs": 3}, "top_logprobs is 3, which this server does not support"),
        ({"n": 1000}, "n is 1000. Use at most 128"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": [{"type": "function"}]}, "A tool is"),
        ({"extra_body": {"temprature": 1}}, "temprature: Extra inputs are not permitted"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "The last message has the role"),
        ({"messages": [{"role": "judge", "content": "a"}]}, "messages.0.role"),
        ({"messages": []}, "messages"),
    ],
)
def test_bad_requests_are_refused_in_openais_schema(
    client: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=message.replace("?", r"\?")) as caught:
        client.chat.completions.create(**{"model": MODEL, "messages": USER, **options})

    assert caught.value.body["type"] == "invalid_request_error"


def test_an_unknown_model_or_path_is_not_found(server: Served, client: Any) -> None:
    with pytest.raises(openai.NotFoundError, match="'gpt' does not exist") as caught:
        client.chat.completions.create(model="gpt", messages=USER)

    assert caught.value.code == "model_not_found"
    assert server.get("/v1/assistants").json()["error"]["code"] == "not_found"


def test_only_json_of_limited_size_is_read() -> None:
    limits = LimitSettings(max_body=1)
    with served(make_app(ScriptedEngine(scripted), limits=limits)) as server:
        large = server.post("/v1/chat/completions", json={"model": "x" * 2000})
        form = server.post("/v1/chat/completions", content=b"{}")

    assert (large.status_code, form.status_code) == (413, 415)
    assert "more than 1 KiB" in large.json()["error"]["message"]


def test_a_wrong_key_is_refused() -> None:
    with served(make_app(ScriptedEngine(scripted), api_key="right")) as server:
        with pytest.raises(openai.AuthenticationError, match="The API key is wrong"):
            ask(server.client(api_key="wrong"), "hi")
        assert server.get("/metrics").status_code == 401
        assert server.get("/health").status_code == 200
        assert ask(server.client(api_key="right"), "hi").choices


@pytest.mark.slow
def test_malformed_requests_get_errors_and_nothing_else(server: Served) -> None:
    draws = random.Random(0)
    body = json.dumps({"model": MODEL, "messages": USER, "n": 1, "stop": ["a"], "seed": 1})
    junk: list[Any] = [None, -1, 2**70, 1e400, "x", [], {}, [[]], {"a": None}, True, "\ud800"]
    bodies = ["", "{", "[]", "null", "1e999", "[" * 100_000, '{"model": NaN}', "\x00"]
    for _ in range(150):
        cut = bytearray(body.encode())
        cut[draws.randrange(len(cut))] = draws.randrange(256)
        bodies.append(bytes(cut[: draws.randrange(1, len(cut) + 1)]).decode("latin-1"))
        fields = json.loads(body)
        fields[draws.choice([*fields, "tools", "tool_choice", "stream"])] = draws.choice(junk)
        bodies.append(json.dumps(fields))
    headers = {"content-type": "application/json"}

    with httpx.Client(base_url=server.url, headers=headers, timeout=60) as http:
        for number, content in enumerate(bodies):
            path = ("/v1/chat/completions", "/v1/completions")[number % 2]
            reply = http.post(path, content=content.encode("utf-8", "replace"))
            assert reply.status_code in (200, 400, 404), content
            if reply.status_code != 200:
                assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
        assert http.get("/health").status_code == 200
    assert server.app.running == 0


class Busy(ScriptedEngine):
    """Never answers."""

    def step(self) -> dict[int, Any]:
        time.sleep(0.002)
        return {}


def test_the_request_of_a_client_that_leaves_is_withdrawn() -> None:
    engine = Busy(scripted)
    with served(make_app(engine)) as server:
        for stream in (False, True):
            with pytest.raises(openai.APITimeoutError):
                ask(server.client(timeout=0.3), "hi", stream=stream)
        deadline = time.monotonic() + 30
        while engine.under_way and time.monotonic() < deadline:
            time.sleep(0.02)

    assert engine.under_way == server.app.running == 0


def test_an_answer_that_takes_too_long_is_an_error() -> None:
    limits = LimitSettings(timeout=0.2)
    with served(make_app(Busy(scripted), limits=limits)) as server:
        with pytest.raises(openai.InternalServerError, match=r"took more than 0\.2 s") as caught:
            ask(server.client(), "hi")
        assert caught.value.status_code == 504


def test_too_many_requests_are_refused() -> None:
    limits = LimitSettings(timeout=1.0, max_requests=1)
    with (
        served(make_app(Busy(scripted), limits=limits)) as server,
        ThreadPoolExecutor(2) as pool,
    ):
        waiting = [pool.submit(ask, server.client(), "hi") for _ in range(2)]
        errors = [type(future.exception(30)) for future in waiting]

    assert sorted(error.__name__ for error in errors) == ["InternalServerError", "RateLimitError"]


def test_answers_of_a_seed_are_those_of_the_engine(dense_policy: Policy) -> None:
    engine, tokenizer = local_engine(dense_policy), dense_policy.tokenizer
    with served(make_app(engine, tokenizer)) as server:
        reply = ask(server.client("s"), "hi", seed=5, n=2)
        rows = server.get("/sessions/s").json()["rows"]

    prompt = torch.tensor(tokenizer("<|user|>hi<|assistant|>")["input_ids"])
    request = Request(
        prompt_ids=prompt, num_completions=2, seed=5, sampling=Sampling(max_new_tokens=16)
    )
    (expected,) = generate_all(local_engine(dense_policy), [request])
    assert [row["token_ids"] for row in rows] == [
        [*prompt.tolist(), *completion.token_ids.tolist()] for completion in expected
    ]
    assert reply.usage.completion_tokens == sum(len(c.token_ids) for c in expected)


@pytest.mark.slow
def test_sixty_four_sessions_are_not_mixed(dense_policy: Policy) -> None:
    engine, tokenizer = local_engine(dense_policy), dense_policy.tokenizer
    start = threading.Barrier(64)

    def talk(number: int) -> list[str]:
        client = server.client(f"s{number}")
        messages: list[Any] = [{"role": "user", "content": f"question {number}"}]
        start.wait(60)
        for turn in range(2):
            reply = client.chat.completions.create(
                model=MODEL, messages=messages, seed=number, max_tokens=6
            )
            messages.append(reply.choices[0].message.model_dump())
            messages.append({"role": "user", "content": f"turn {turn} of {number}"})
        return [message["content"] for message in messages[:-1]]

    with served(make_app(engine, tokenizer)) as server, ThreadPoolExecutor(64) as pool:
        talks = list(pool.map(talk, range(64)))
        recorded = [server.get(f"/sessions/s{number}").json() for number in range(64)]

    for number, (said, session) in enumerate(zip(talks, recorded, strict=True)):
        (row,) = session["rows"]
        assert [message["content"] for message in row["messages"]] == said
        assert f"question {number}" in said
        assert sum(row["sampled"]) == sum(p is not None for p in row["logprobs"]) > 0
