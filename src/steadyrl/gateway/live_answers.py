"""Answers while they are sampled: the text of each that its client can already have.

Text is held back while it may still change or disappear: bytes of an incomplete character, what may
become a stop string, and what may become a tool call.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from steadyrl.engines.protocol import SampledToken
from steadyrl.gateway.answers import Answer, scored_tokens
from steadyrl.gateway.errors import ApiError
from steadyrl.policies.incremental_text import IncrementalText
from steadyrl.records.tool_calls import ToolSettings, before_match, settled_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A piece of an answer.

    Example:
        Piece(index=0, text=" is", scored=((326, -0.5),))
    """

    index: int
    """Number of the answer."""

    text: str

    scored: tuple[tuple[int, float], ...]
    """Ids and log-probabilities of the tokens up to its end that are in no earlier piece."""


class LiveAnswers:
    """The answers to a request while an engine samples them.

    Args:
        count: Number of answers.
        tools: How calls are read; None: they are not.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        count: int,
        *,
        stops: Sequence[str] = (),
        tools: ToolSettings | None = None,
    ) -> None:
        self._answers = [
            _LiveAnswer(index, tokenizer, tuple(stops), tools) for index in range(count)
        ]
        self._arrived: deque[SampledToken] = deque()
        self._changed = asyncio.Event()

    def listen(self, token: SampledToken) -> None:
        """Takes a token from the engine."""
        self._arrived.append(token)
        self._changed.set()

    async def pieces(self, answering: "asyncio.Task[list[Answer]]") -> AsyncIterator[list[Piece]]:
        """Pieces of the answers, at least one at a time, until `answering` is done."""
        answering.add_done_callback(lambda _: self._changed.set())
        while not answering.done():
            await self._changed.wait()
            self._changed.clear()
            if found := list(self._new_pieces()):
                yield found

    def rest(self, answers: Sequence[Answer]) -> list[Piece]:
        """What no piece had of the finished answers, one piece for each of them."""
        return [live.rest(answer) for live, answer in zip(self._answers, answers, strict=True)]

    def check(self, answers: Sequence[Answer]) -> None:
        """Ends the pieces, and returns if the finished answers begin with them.

        Raises:
            ApiError: the engine has sampled an answer again, and got another one.
        """
        self._arrived.clear()
        if not all(map(_LiveAnswer.is_begun_by, self._answers, answers)):
            raise ApiError(
                "The answer was sampled again after a part of it had been sent, and differs from "
                "it. Send the request again.",
                status=500,
                code="answer_restarted",
            )

    def _new_pieces(self) -> Iterator[Piece]:
        changed: dict[int, None] = {}
        while self._arrived:
            token = self._arrived.popleft()
            self._answers[token.sample].add(token)
            changed[token.sample] = None
        for index in changed:
            piece = self._answers[index].new_piece()
            if piece is not None:
                yield piece


class _LiveAnswer:
    """One answer."""

    def __init__(
        self,
        index: int,
        tokenizer: PreTrainedTokenizerBase,
        stops: tuple[str, ...],
        tools: ToolSettings | None,
    ) -> None:
        self._index = index
        self._stops, self._tools = stops, tools
        self._text = IncrementalText(tokenizer)
        self._logprobs: list[float] = []
        self._sent = ""
        self._sent_ids: list[int] = []

    def add(self, token: SampledToken) -> None:
        """Adds a token. If the engine has started again, later tokens are dropped."""
        if token.position < len(self._logprobs):
            self._text = self._text.first(token.position)
            del self._logprobs[token.position :]
        self._text.append(token.token_id)
        self._logprobs.append(token.logprob)

    def new_piece(self) -> Piece | None:
        """What can be sent now; None: nothing."""
        text = self._text.settled
        text = text[: min((before_match(text, stop) for stop in self._stops), default=len(text))]
        text, end = (text, len(text)) if self._tools is None else settled_text(text, self._tools)
        if len(text) <= len(self._sent) or not text.startswith(self._sent):
            return None
        added, self._sent = text[len(self._sent) :], text
        first = last = len(self._sent_ids)
        while last < len(self._logprobs) and self._text.ends[last] <= end:
            last += 1
        ids = self._text.token_ids[first:last]
        self._sent_ids += ids
        scored = zip(ids, self._logprobs[first:last], strict=True)
        return Piece(index=self._index, text=added, scored=tuple(scored))

    def rest(self, answer: Answer) -> Piece:
        """What was not sent of the finished answer."""
        return Piece(
            index=self._index,
            text=answer.reply.text[len(self._sent) :],
            scored=tuple(scored_tokens(answer)[len(self._sent_ids) :]),
        )

    def is_begun_by(self, answer: Answer) -> bool:
        """Whether what was sent is the beginning of the finished answer."""
        begun = [token for token, _ in scored_tokens(answer)[: len(self._sent_ids)]]
        return answer.reply.text.startswith(self._sent) and begun == self._sent_ids
