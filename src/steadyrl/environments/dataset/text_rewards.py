"""Rewards that compare texts exactly, by a pattern, or by length."""

from typing import Literal
from unicodedata import normalize

import regex
from pydantic import Field, field_validator, model_validator

from steadyrl.environments.answer_formats import AnswerFormat
from steadyrl.environments.dataset.examples import Example
from steadyrl.environments.dataset.rewards import (
    NO_ANSWER,
    Attempt,
    RewardResult,
    RewardSettings,
    TextReward,
    binary_result,
)
from steadyrl.environments.question_answering import normalize_answer


class ExactReward(RewardSettings):
    """1 if the answer equals the correct one, else 0."""

    name: Literal["exact"] = "exact"

    compare: Literal["text", "words"] = "text"
    """text: ignores surrounding and repeated whitespace. words: also ignores case, ASCII
    punctuation and English articles."""

    def make(self, answer_format: AnswerFormat) -> TextReward:
        """The reward."""
        same = normalize_answer if self.compare == "words" else collapse_whitespace

        def mark(answer: str, example: Example) -> RewardResult:
            return binary_result(same(answer) == same(example.answer or ""))

        return TextReward.of_answers(mark)


def collapse_whitespace(text: str) -> str:
    """`text` in Unicode composed form, with single spaces."""
    return " ".join(normalize("NFC", text).split())


class RegexReward(RewardSettings):
    """1 if a pattern matches, else 0."""

    name: Literal["regex"] = "regex"

    pattern: str = Field(min_length=1)
    """Regular expression to search for; ^ and $ match the ends of the text. A group
    `(?P<answer>...)` must match the correct answer."""

    part: Literal["answer", "response"] = "answer"
    """Text to search: the answer, without thinking, or the whole response."""

    timeout: float = Field(1.0, gt=0.0)
    """Maximum seconds per search; slower searches earn 0."""

    @field_validator("pattern")
    @classmethod
    def _is_a_pattern(cls, pattern: str) -> str:
        try:
            regex.compile(pattern)
        except regex.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression ({error})") from error
        return pattern

    @property
    def reads_answer(self) -> bool:
        """Whether the pattern has a group `answer`."""
        return "answer" in regex.compile(self.pattern).groupindex

    def make(self, answer_format: AnswerFormat) -> TextReward:
        """The reward."""
        return TextReward(self._mark)

    def _mark(self, attempt: Attempt) -> RewardResult:
        searched = attempt.text if self.part == "response" else attempt.answer
        if searched is None:
            return NO_ANSWER
        try:
            found = regex.search(self.pattern, searched, timeout=self.timeout)
        except TimeoutError:
            return RewardResult(value=0.0, reason=f"the search took longer than {self.timeout:g} s")
        if found is None:
            return RewardResult(value=0.0, reason=f"the {self.part} does not match the pattern")
        if not self.reads_answer:
            return RewardResult(value=1.0, reason=f"the {self.part} matches the pattern")
        right = collapse_whitespace(attempt.example.answer or "")
        return binary_result(collapse_whitespace(found["answer"] or "") == right)


class LengthReward(RewardSettings):
    """1 if the response has an allowed length, else 0. Thinking counts."""

    name: Literal["length"] = "length"

    min_length: int = Field(0, ge=0)
    """Minimum length."""

    max_length: int | None = Field(None, ge=1)
    """Maximum length. None: no limit."""

    unit: Literal["words", "characters"] = "words"
    """Unit of length. Words are separated by whitespace."""

    @model_validator(mode="after")
    def _is_possible(self) -> "LengthReward":
        if self.max_length is not None and self.max_length < self.min_length:
            raise ValueError(
                f"max_length is {self.max_length}, less than min_length, which is {self.min_length}"
            )
        return self

    @property
    def reads_answer(self) -> bool:
        """False."""
        return False

    def make(self, answer_format: AnswerFormat) -> TextReward:
        """The reward."""
        return TextReward(self._mark)

    def _mark(self, attempt: Attempt) -> RewardResult:
        length = len(attempt.text.split() if self.unit == "words" else attempt.text)
        if length < self.min_length:
            return RewardResult(
                value=0.0, reason=f"the response is too short: {length} {self.unit}"
            )
        if self.max_length is not None and length > self.max_length:
            return RewardResult(value=0.0, reason=f"the response is too long: {length} {self.unit}")
        return RewardResult(value=1.0, reason="the response has the right length")
