"""Answers as server-sent events, sent while they are sampled.

Until the first piece of an answer, a failure is a reply with its status. After it, a failure is an
event, since the status has been sent.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from typing import Any, Protocol

from starlette.responses import Response, StreamingResponse

from steadyrl.gateway.answers import Answer
from steadyrl.gateway.errors import ApiError, as_api_error
from steadyrl.gateway.live_answers import LiveAnswers, Piece

LENGTH = 64
"""Maximum number of characters in a chunk of text that is complete."""


class AnswerEvents(Protocol):
    """Events of answers in one of OpenAI's schemas."""

    def begin(self) -> Iterator[str]:
        """Events before the first piece."""
        ...

    def add(self, piece: Piece) -> Iterator[str]:
        """Events of a piece."""
        ...

    def end(self, answers: Sequence[Answer], rest: Sequence[Piece]) -> Iterator[str]:
        """Events after the pieces: what remains of each answer, and how it ended."""
        ...

    def fail(self, error: ApiError) -> Iterator[str]:
        """Events of a failure, after which nothing follows."""
        ...


async def stream_answers(
    answering: Coroutine[Any, Any, list[Answer]], live: LiveAnswers, events: AnswerEvents
) -> Response:
    """The reply that streams what `answering` adds to `live`.

    `answering` is canceled if the reply is.

    Raises:
        Exception: what `answering` raises before there is a piece.
    """
    task = asyncio.ensure_future(answering)
    pieces = live.pieces(task)
    try:
        first = await anext(pieces, None)
        if first is None:
            await task
    except BaseException:
        _cancel(task)
        raise
    return StreamingResponse(
        _events(task, live, events, first or [], pieces), media_type="text/event-stream"
    )


async def _events(
    task: asyncio.Task[list[Answer]],
    live: LiveAnswers,
    events: AnswerEvents,
    first: list[Piece],
    pieces: AsyncIterator[list[Piece]],
) -> AsyncIterator[str]:
    """The events, those of pieces that arrived together in one string."""
    try:
        yield "".join((*events.begin(), *_each(events, first)))
        async for found in pieces:
            yield "".join(_each(events, found))
        answers = await task
        yield "".join(events.end(answers, live.rest(answers)))
    except Exception as error:
        yield "".join(events.fail(as_api_error(error)))
    finally:
        _cancel(task)


def _each(events: AnswerEvents, pieces: Sequence[Piece]) -> Iterator[str]:
    for piece in pieces:
        yield from events.add(piece)


def _cancel(task: asyncio.Task[list[Answer]]) -> None:
    task.cancel()
    task.add_done_callback(lambda done: done.cancelled() or done.exception())  # not to be logged


def in_chunks(text: str) -> Iterator[str]:
    """A text in chunks for a stream."""
    for start in range(0, len(text), LENGTH):
        yield text[start : start + LENGTH]


def event(body: dict[str, Any], name: str = "") -> str:
    """A server-sent event."""
    named = f"event: {name}\n" if name else ""
    return f"{named}data: {json.dumps(body)}\n\n"
