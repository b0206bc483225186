"""Streams of `/v1/chat/completions` and `/v1/completions` in OpenAI's schema."""

from abc import ABC, abstractmethod
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
class _Chunks(ABC):
    """Chunks of answers, whose choices differ between the two schemas."""

    head: Body
    """What each chunk begins with."""

    tokenizer: PreTrainedTokenizerBase
    with_logprobs: bool
    include_usage: bool

    @abstractmethod
    def begin(self) -> Iterator[str]:
        """Chunks before the first piece."""

    def add(self, piece: Piece) -> Iterator[str]:
        """A piece of an answer."""
        yield self._chunk(piece.index, self._part(piece.text), self._logprobs(piece))

    def end(self, answers: Sequence[Answer], rest: Sequence[Piece]) -> Iterator[str]:
        """The rest of each answer, its calls and why it ended."""
        for answer, piece in zip(answers, rest, strict=True):
            for text in in_chunks(piece.text):
                yield self._chunk(piece.index, self._part(text))
            yield from self._calls(answer, piece.index)
            last = self._part("")
            yield self._chunk(piece.index, last, self._logprobs(piece), answer.finish_reason)
        if self.include_usage:
            yield event({**self.head, "choices": [], "usage": usage(answers)})
        yield _DONE

    def fail(self, error: ApiError) -> Iterator[str]:
        """The error."""
        yield event(error.to_json())
        yield _DONE

    @abstractmethod
    def _part(self, text: str) -> Body:
        """What a choice says of the text of a chunk; "": the chunk has none."""

    @abstractmethod
    def _scored(self, piece: Piece) -> Body:
        """Log-probabilities of a piece."""

    def _calls(self, answer: Answer, index: int) -> Iterator[str]:
        """Tool calls of an answer."""
        yield from ()

    def _logprobs(self, piece: Piece) -> Body | None:
        return self._scored(piece) if self.with_logprobs else None

    def _chunk(
        self, index: int, part: Body, logprobs: Body | None = None, reason: str | None = None
    ) -> str:
        choice = {"index": index, **part, "logprobs": logprobs, "finish_reason": reason}
        return event({**self.head, "choices": [choice]})


@dataclass(slots=True, kw_only=True)
class ChatChunks(_Chunks):
    """Chunks of `/v1/chat/completions`."""

    count: int
    """Number of answers."""

    def begin(self) -> Iterator[str]:
        """The role of each answer."""
        for index in range(self.count):
            yield self._chunk(index, {"delta": {"role": "assistant", "content": ""}})

    def _part(self, text: str) -> Body:
        return {"delta": {"content": text} if text else {}}

    def _scored(self, piece: Piece) -> Body:
        return chat_logprobs(piece.scored, self.tokenizer)

    def _calls(self, answer: Answer, index: int) -> Iterator[str]:
        for number, call in enumerate(tool_calls(answer, index)):
            yield self._chunk(index, {"delta": {"tool_calls": [{"index": number, **call}]}})


@dataclass(slots=True, kw_only=True)
class TextChunks(_Chunks):
    """Chunks of `/v1/completions`."""

    _offsets: Counter[int] = field(default_factory=Counter)
    """Numbers of characters of the scored tokens of each answer."""

    def begin(self) -> Iterator[str]:
        """Nothing."""
        yield from ()

    def _part(self, text: str) -> Body:
        return {"text": text}

    def _scored(self, piece: Piece) -> Body:
        offset = self._offsets[piece.index]
        found = text_logprobs(piece.scored, self.tokenizer, offset=offset)
        self._offsets[piece.index] += sum(map(len, found["tokens"]))
        return found
