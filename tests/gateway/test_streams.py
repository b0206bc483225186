"""Streams with the official client, from an engine that waits for its next token."""

import asyncio
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import openai
import pytest
import torch

from steadyrl.base.errors import UserError
from steadyrl.engines.protocol import Request, SampledToken, TokenListener
from steadyrl.gateway.limits import LimitSettings
from steadyrl.gateway.sessions import Session, Turn
from steadyrl.policies.policy import Policy
from steadyrl.records.completion import Completion, FinishReason
from steadyrl.records.tool_calls import ToolSettings
from tests.gateway.serving import MODEL, Served, local_engine, make_app, served
from tests.rollout.fakes import ScriptedEngine

TOOL = {"type": "function", "function": {"name": "add", "parameters": {}}}
PATIENCE = 60
"""Seconds after which a test fails that waits for what does not come."""


class PacedEngine(ScriptedEngine):
    """Samples the tokens of all answers to a request together, each when it is allowed to."""

    streams_tokens = True

    def __init__(self, text: str) -> None:
        super().__init__(lambda prompt, number, call: text)
        self.allowed = asyncio.Semaphore(0)
        self.fails = False
        self.ended = threading.Event()
        self.left = threading.Event()

    async def generate(self, request: Request) -> list[Completion]:
        return await self.stream(request, lambda token: None)

    async def stream(self, request: Request, listener: TokenListener) -> list[Completion]:
        (completions,) = self.answer([request])
        try:
            for position in range(max(len(each.token_ids) for each in completions)):
                await self.allowed.acquire()
                if self.fails:
                    raise RuntimeError("out of memory")
                _report(completions, position, listener)
        except asyncio.CancelledError:
            self.left.set()
            raise
        self.ended.set()
        return completions


def _report(completions: Sequence[Completion], position: int, listener: TokenListener) -> None:
    for sample, each in enumerate(completions):
        if position < len(each.token_ids) - (each.finish_reason is FinishReason.STOP):
            listener(
                SampledToken(
                    sample=sample,
                    position=position,
                    token_id=int(each.token_ids[position]),
                    logprob=float(each.logprobs[position]),
                )
            )


@contextmanager
def paced(text: str, **parts: Any) -> Iterator[tuple[Served, Any]]:
    """A server, and a function that lets its engine sample so many more tokens."""
    engine = PacedEngine(text)
    with served(make_app(engine, **parts)) as server:

        def allow(count: int) -> None:
            for _ in range(count):
                server.loop.call_soon_threadsafe(engine.allowed.release)

        try:
            yield server, allow
        finally:
            allow(1000)


def ask(client: Any, **options: Any) -> Any:
    messages = [{"role": "user", "content": "hi"}]
    return client.chat.completions.create(
        model=MODEL, messages=messages, stream=True, timeout=PATIENCE, **options
    )


def text_of(chunks: Sequence[Any], index: int = 0) -> str:
    choices = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
    return "".join(choice.delta.content or "" for choice in choices)


def until(chunks: Iterator[Any], text: str) -> list[Any]:
    """The chunks up to the one with which the text is complete."""
    found: list[Any] = []
    while text_of(found) != text:
        found.append(next(chunks))
        assert text.startswith(text_of(found))
    return found


def test_tokens_are_sent_before_the_next_ones_are_sampled() -> None:
    with paced("one two") as (server, allow):
        allow(2)
        chunks = iter(ask(server.client("s"), stream_options={"include_usage": True}))
        until(chunks, "on")
        assert not server.gateway.engine.ended.is_set()
        assert server.get("/sessions/s").json()["rows"] == []
        allow(2)
        until(chunks, "e ")
        assert server.app.running == 1
        allow(100)
        last = list(chunks)

    assert text_of(last) == "two"
    assert last[-2].choices[0].finish_reason == "stop"
    assert last[-1].usage.completion_tokens == len("one two") + 1


def test_tokens_of_completions_and_responses_are_sent_as_they_come() -> None:
    with paced("one two") as (server, allow):
        client = server.client("s", timeout=PATIENCE)
        allow(1)
        texts = iter(client.completions.create(model=MODEL, prompt="a", stream=True))
        assert next(texts).choices[0].text == "o"
        assert not server.gateway.engine.ended.is_set()
        allow(100)
        rest = list(texts)
        assert "".join(chunk.choices[0].text for chunk in rest) == "ne two"
        assert rest[-1].choices[0].finish_reason == "stop"

    with paced("one two") as (server, allow):
        allow(1)
        events = iter(
            server.client("s", timeout=PATIENCE).responses.create(
                model=MODEL, input="a", stream=True
            )
        )
        begun = [next(events) for _ in range(5)]
        assert not server.gateway.engine.ended.is_set()
        allow(100)
        rest = list(events)

    assert [event.type for event in begun] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
    ]
    assert begun[-1].delta == "o"
    numbers = [event.sequence_number for event in (*begun, *rest)]
    assert numbers == list(range(len(numbers)))
    assert rest[-1].response.output_text == "one two"
    assert {e.item_id for e in (*begun, *rest) if e.type == "response.output_text.delta"} == {
        rest[-1].response.output[0].id
    }


def test_several_answers_are_streamed_side_by_side_with_their_logprobs() -> None:
    with paced("one two") as (server, allow):
        allow(3)
        chunks = iter(ask(server.client(), n=3, logprobs=True, stop=["tw"]))
        first = until(chunks, "one")
        allow(100)
        found = [*first, *chunks]
        whole = server.client().chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "hi"}],
            n=3,
            logprobs=True,
            stop=["tw"],
        )

    for choice in whole.choices:
        parts = [c for chunk in found for c in chunk.choices if c.index == choice.index]
        scored = [token for part in parts if part.logprobs for token in part.logprobs.content]
        assert text_of(found, choice.index) == choice.message.content == "one "
        assert [t.token for t in scored] == [t.token for t in choice.logprobs.content]
        assert [t.logprob + 100 for t in scored] == [
            t.logprob + 200 for t in choice.logprobs.content
        ]
        assert parts[-1].finish_reason == choice.finish_reason == "stop"


def test_what_may_be_a_stop_string_or_a_call_waits() -> None:
    call = '<tool_call>{"name": "add", "arguments": {"a": 3}}</tool_call>'
    with paced(f"So <b {call} end", tools=ToolSettings(shown="none")) as (server, allow):
        allow(len(f"So <b {call} en"))
        chunks = iter(ask(server.client(), tools=[TOOL], stop=["end"]))
        begun = until(chunks, "So <b")
        allow(100)
        rest = list(chunks)

    found = [*begun, *rest]
    calls = [c for chunk in found for c in chunk.choices[0].delta.tool_calls or ()]
    assert text_of(found) == "So <b"
    assert [(c.function.name, json.loads(c.function.arguments)) for c in calls] == [
        ("add", {"a": 3})
    ]
    assert rest[-1].choices[0].finish_reason == "tool_calls"


def test_a_client_that_leaves_in_mid_stream_ends_the_generation() -> None:
    with paced("one two") as (server, allow):
        engine: Any = server.gateway.engine
        allow(2)
        stream = ask(server.client("s"))
        until(iter(stream), "on")
        stream.close()
        assert engine.left.wait(PATIENCE)
        recorded = server.get("/sessions/s").json()
        lines = dict(line.split() for line in server.get("/metrics").text.splitlines())

    assert not engine.ended.is_set()
    assert recorded["rows"] == []
    assert lines["steadyrl_running_requests"] == "0"


def test_a_failure_in_mid_stream_is_an_event_in_openais_schema() -> None:
    with paced("one two") as (server, allow):
        engine: Any = server.gateway.engine
        allow(2)
        chunks = iter(ask(server.client("s")))
        until(chunks, "on")
        engine.fails = True
        allow(1)
        with pytest.raises(openai.APIError, match="out of memory") as caught:
            list(chunks)
        engine.fails = False
        assert server.get("/sessions/s").json()["rows"] == []

        allow(1)
        events = iter(
            server.client(timeout=PATIENCE).responses.create(model=MODEL, input="a", stream=True)
        )
        for _ in range(5):
            next(events)
        engine.fails = True
        allow(1)
        (error,) = events

    assert caught.value.type == "server_error"
    assert (error.type, error.code, error.sequence_number) == ("error", "server_error", 5)
    assert "out of memory" in error.message


def test_a_failure_before_the_first_token_is_a_status() -> None:
    with paced("one two", limits=LimitSettings(timeout=0.2)) as (server, _):
        with pytest.raises(openai.InternalServerError) as caught:
            ask(server.client())
        assert caught.value.status_code == 504
        with pytest.raises(openai.NotFoundError):
            server.client().chat.completions.create(
                model="other", messages=[{"role": "user", "content": "hi"}], stream=True
            )
        assert server.app.running == 0


def test_a_timeout_in_mid_stream_is_an_event() -> None:
    with paced("one two", limits=LimitSettings(timeout=1.0)) as (server, allow):
        allow(2)
        chunks = iter(ask(server.client()))
        until(chunks, "on")
        with pytest.raises(openai.APIError, match="took more than 1 s") as caught:
            list(chunks)

    assert caught.value.code == "timeout"


class FullStore:
    """A store without room."""

    def record(self, session: Session, turns: Sequence[Turn], parent: Turn | None) -> None:
        raise UserError("The disk is full.")

    def give_feedback(self, *given: Any) -> int | None:
        raise NotImplementedError

    def forget(self, session: str) -> bool:
        raise NotImplementedError


def test_an_answer_that_cannot_be_stored_is_not_finished() -> None:
    with paced("one two") as (server, allow):
        server.gateway.recorder = FullStore()
        allow(2)
        chunks = iter(ask(server.client("s")))
        found = until(chunks, "on")
        allow(100)
        with pytest.raises(openai.APIError, match="The disk is full"):
            found.extend(chunks)

    assert {chunk.choices[0].finish_reason for chunk in found} == {None}


def test_streams_are_recorded_as_answers_without_a_stream(dense_policy: Policy) -> None:
    recorded = []
    for stream in (False, True):
        app = make_app(local_engine(dense_policy), dense_policy.tokenizer)
        with served(app) as server:
            client, messages = server.client("s"), [{"role": "user", "content": "hi"}]
            options = {"model": MODEL, "seed": 5, "n": 2, "stop": ["a"], "logprobs": True}
            reply: Any = client.chat.completions.create(messages=messages, stream=stream, **options)
            if stream:
                chunks = list(reply)
                texts = [text_of(chunks, index) for index in range(2)]
                assert len(chunks) > 6
            else:
                texts = [choice.message.content for choice in reply.choices]
            (turns,) = [server.gateway.sessions["s"].turns]
            recorded.append((texts, server.get("/sessions/s").json(), turns))

    (texts, session, turns), (other_texts, other_session, other_turns) = recorded
    assert other_texts == texts
    assert other_session == session
    for turn, other in zip(turns, other_turns, strict=True):
        assert torch.equal(turn.completion.token_versions, other.completion.token_versions)
        assert turn.messages == other.messages
