"""Streams of `/v1/chat/completions` and `/v1/completions` in OpenAI's schema."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

from steadyrl.gateway.answers import Answer
from steadyrl.gateway.errors import ApiError
from steadyrl.gateway.live_answers import Piece
from steadyrl.gateway.replies import Body, chat_logprobs, text_logprobs, tool_calls, usage
from steadyrl.gateway.streams import event, in_chunks

_DONE = "data: [DONE]\n\n"


@dataclass(slots=True, kw_only=True)
class ChatChunks:
    """Chunks of `/v1/chat/completions`."""

    head: Body
    """What each chunk begins with."""

    tokenizer: PreTrainedTokenizerBase
    count: int
    """Number of answers."""

    with_logprobs: bool
    include_usage: bool

    def begin(self) -> Iterator[str]:
        """The role of each answer."""
        for index in range(self.count):
            yield self._chunk(index, {"role": "assistant", "content": ""}, None)

    def add(self, piece: Piece) -> Iterator[str]:
        """A piece of an answer."""
        yield self._chunk(piece.index, {"content": piece.text}, self._logprobs(piece))

    def end(self, answers: Sequence[Answer], rest: Sequence[Piece]) -> Iterator[str]:
        """The rest of each answer, its calls and why it ended."""
        for answer, piece in zip(answers, rest, strict=True):
            index = piece.index
            for text in in_chunks(piece.text):
                yield self._chunk(index, {"content": text}, None)
            for number, call in enumerate(tool_calls(answer, index)):
                yield self._chunk(index, {"tool_calls": [{"index": number, **call}]}, None)
            yield self._chunk(index, {}, self._logprobs(piece), answer.finish_reason)
        if self.include_usage:
            yield event({**self.head, "choices": [], "usage": usage(answers)})
        yield _DONE

    def fail(self, error: ApiError) -> Iterator[str]:
        """The error."""
        yield event(error.to_json())
        yield _DONE

    def _logprobs(self, piece: Piece) -> Body | None:
        return chat_logprobs(piece.scored, self.tokenizer) if self.with_logprobs else None

    def _chunk(
        self, index: int, delta: Body, logprobs: Body | None, reason: str | None = None
    ) -> str:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return event({**self.head, "choices": [choice]})


@dataclass(slots=True, kw_only=True)
class TextChunks:
    """Chunks of `/v1/completions`."""

    head: Body
    """What each chunk begins with."""

    tokenizer: PreTrainedTokenizerBase
    with_logprobs: bool
    include_usage: bool
    _offsets: Counter[int] = field(default_factory=Counter)
    """Numbers of characters of the scored tokens of each answer."""

    def begin(self) -> Iterator[str]:
        """Nothing."""
        yield from ()

    def add(self, piece: Piece) -> Iterator[str]:
        """A piece of an answer."""
        yield self._chunk(piece.index, piece.text, self._logprobs(piece))

    def end(self, answers: Sequence[Answer], rest: Sequence[Piece]) -> Iterator[str]:
        """The rest of each answer, and why it ended."""
        for answer, piece in zip(answers, rest, strict=True):
            for text in in_chunks(piece.text):
                yield self._chunk(piece.index, text, None)
            yield self._chunk(piece.index, "", self._logprobs(piece), answer.finish_reason)
        if self.include_usage:
            yield event({**self.head, "choices": [], "usage": usage(answers)})
        yield _DONE

    def fail(self, error: ApiError) -> Iterator[str]:
        """The error."""
        yield event(error.to_json())
        yield _DONE

    def _logprobs(self, piece: Piece) -> Body | None:
        if not self.with_logprobs:
            return None
        offset = self._offsets[piece.index]
        found = text_logprobs(piece.scored, self.tokenizer, offset=offset)
        self._offsets[piece.index] += sum(map(len, found["tokens"]))
        return found

    def _chunk(
        self, index: int, text: str, logprobs: Body | None, reason: str | None = None
    ) -> str:
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
        return event({**self.head, "choices": [choice]})
