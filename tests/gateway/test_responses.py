"""`/v1/responses` with the official client."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.gateway.serving import MODEL, Served, make_app, served
from tests.rollout.fakes import TOKENIZER, ScriptedEngine

ADD = {
    "type": "function",
    "name": "add",
    "description": "Adds.",
    "parameters": {"type": "object", "properties": {}},
    "strict": True,
}


def scripted(prompt: str, number: int, call: int) -> str:
    """A call with odd spacing after `call`, a long text after `long`, otherwise an answer."""
    question = prompt.rpartition("<|user|>")[2].removesuffix("<|assistant|>")
    if question == "call":
        return '{"arguments": {"b":4,  "a":3}, "name":"add"}'
    if question == "long":
        return "x" * 150 + "..."
    return f" answer to {question}"


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(make_app(ScriptedEngine(scripted))) as running:
        yield running


@pytest.fixture
def client(server: Served, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A client of a session of its own, which is called like the test."""
    name = request.node.name.partition("[")[0]
    yield server.client(name)
    server.gateway.sessions.pop(name, None)


def ask(client: Any, given: Any, **options: Any) -> Any:
    return client.responses.create(model=MODEL, input=given, **options)


def rows(server: Served, request: pytest.FixtureRequest) -> list[str]:
    """Text of the tokens of each row of the session."""
    session = server.get(f"/sessions/{request.node.name}").json()
    return [TOKENIZER.decode(row["token_ids"]) for row in session["rows"]]


def test_text_is_answered_with_usage_and_status(client: Any) -> None:
    reply = ask(client, "hi", instructions="Be brief.", max_output_tokens=16)

    assert reply.output_text == " answer to hi"
    assert reply.status == "completed"
    assert reply.incomplete_details is None
    assert reply.usage.output_tokens == len(" answer to hi") + 1
    assert reply.usage.total_tokens == reply.usage.input_tokens + reply.usage.output_tokens


def test_an_answer_without_end_token_is_incomplete(client: Any) -> None:
    reply = ask(client, "long")

    assert reply.status == "incomplete"
    assert reply.incomplete_details.reason == "max_output_tokens"


def test_a_tool_conversation_continues_the_sampled_tokens(
    server: Served, client: Any, request: pytest.FixtureRequest
) -> None:
    items: list[Any] = [{"role": "user", "content": "call"}]
    first = ask(client, items, tools=[ADD])
    (call,) = first.output
    assert (call.type, call.name, json.loads(call.arguments)) == (
        "function_call",
        "add",
        {"a": 3, "b": 4},
    )
    items += first.output
    items.append({"type": "function_call_output", "call_id": call.call_id, "output": "7"})
    items.append({"role": "user", "content": [{"type": "input_text", "text": "so"}]})
    assert ask(client, items, tools=[ADD]).output_text == " answer to so"

    assert rows(server, request) == [
        '<|user|>call<|assistant|>{"arguments": {"b":4,  "a":3}, "name":"add"}<|end|>'
        "<|tool|>7<|user|>so<|assistant|> answer to so<|end|>"
    ]


def test_a_previous_response_is_continued_with_new_instructions(
    server: Served, client: Any, request: pytest.FixtureRequest
) -> None:
    first = ask(client, "a", instructions="s")
    second = ask(client, "b", previous_response_id=first.id, instructions="s")
    third = ask(client, "c", previous_response_id=second.id)
    other = ask(client, "d", previous_response_id=first.id, instructions="s")

    assert second.previous_response_id == first.id
    assert third.output_text == " answer to c"
    begun = "<|system|>s<|user|>a<|assistant|> answer to a<|end|><|user|>"
    assert rows(server, request) == [
        f"{begun}b<|assistant|> answer to b<|end|>",
        "<|user|>a<|assistant|> answer to a<|end|><|user|>b<|assistant|> answer to b<|end|>"
        "<|user|>c<|assistant|> answer to c<|end|>",
        f"{begun}d<|assistant|> answer to d<|end|>",
    ]
    assert other.status == "completed"
    session = server.get(f"/sessions/{request.node.name}").json()
    assert session["new_rows"] == {"other_conversation": 1, "branched": 1}


def test_log_probabilities_are_included_on_request(client: Any) -> None:
    reply = ask(client, "hi", include=["message.output_text.logprobs"])
    (text,) = reply.output[0].content

    assert "".join(scored.token for scored in text.logprobs) == " answer to hi"
    assert not ask(client, "hi").output[0].content[0].logprobs


def test_the_stream_of_the_client_adds_up_to_the_answer(client: Any) -> None:
    question = "y" * 100
    with client.responses.stream(model=MODEL, input=question) as stream:
        events = list(stream)
        final = stream.get_final_response()

    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert text == final.output_text == f" answer to {question}"
    assert [e.sequence_number for e in events] == list(range(len(events)))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"


def test_a_tool_call_is_streamed(client: Any) -> None:
    with client.responses.stream(model=MODEL, input="call", tools=[ADD]) as stream:
        events = list(stream)
        (call,) = stream.get_final_response().output

    deltas = [e for e in events if e.type == "response.function_call_arguments.delta"]
    assert json.loads(deltas[-1].snapshot) == json.loads(call.arguments) == {"a": 3, "b": 4}
    done = [e for e in events if e.type == "response.output_item.done"]
    assert done[0].item.call_id == call.call_id


def test_an_incomplete_answer_is_streamed(client: Any) -> None:
    with client.responses.stream(model=MODEL, input="long") as stream:
        last = list(stream)[-1]

    assert last.type == "response.incomplete"
    assert last.response.output_text == "x" * 150


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input": []}, "input: List should have at least 1 item"),
        ({"input": [{"type": "computer_call"}]}, "computer_call"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input_image"),
        ({"input": [{"role": "assistant", "content": "a"}]}, "The last message has the role"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type: Input should be 'function'"),
        ({"tool_choice": "required"}, "tool_choice: Input should be 'auto' or 'none'"),
        ({"text": {"format": {"type": "json_object"}}}, "text is"),
        ({"truncation": "auto"}, "truncation is 'auto', which this server does not support"),
        ({"background": True}, "background is True"),
        ({"conversation": "conv_1"}, "conversation is 'conv_1'"),
        ({"previous_response_id": "resp_1"}, "There is no response 'resp_1' in session 'test_bad"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"extra_body": {"n": 2}}, "n: Input should be 1"),
        ({"extra_body": {"temprature": 1}}, "temprature: Extra inputs are not permitted"),
    ],
)
def test_bad_requests_are_refused_in_openais_schema(
    client: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=message) as caught:
        client.responses.create(**{"model": MODEL, "input": "hi", **options})

    assert caught.value.body["type"] == "invalid_request_error"


def test_a_previous_response_needs_a_session(server: Served) -> None:
    with pytest.raises(openai.BadRequestError, match="outside of a session") as caught:
        ask(server.client(), "hi", previous_response_id="resp_1")

    assert caught.value.code == "previous_response_not_found"
