"""What a reward is."""

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from pydantic import Field

from steadyrl.base.variants import Variant
from steadyrl.environments.answer_formats import AnswerFormat
from steadyrl.environments.dataset.examples import Example


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A response to an example.

    Example:
        Attempt(example=example, text="<think>1</think>It is 2.", answer="It is 2.")
    """

    example: Example

    text: str
    """The whole response."""

    answer: str | None
    """What of it is the answer, without thoughts; None where the answer format is not followed."""

    token_ids: tuple[int, ...] = ()
    """Tokens of the response with its end token, for rewards that compare."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardResult:
    """What an attempt earned.

    Example:
        RewardResult(value=0.0, reason="the answer is wrong")
    """

    value: float | None
    """None where the reward does not apply to the example."""

    reason: str = ""
    """In words that do not tell the right answer."""


@runtime_checkable
class Reward(Protocol):
    """Judges attempts."""

    @property
    def compares(self) -> bool:
        """Whether it judges all attempts at an example together."""
        ...

    def check(self, example: Example) -> None:
        """Returns if attempts at `example` can be judged.

        Raises:
            InvalidRowError: they cannot, as its answer has another form.
        """
        ...

    def judge(
        self, attempts: Sequence[Attempt]
    ) -> list[RewardResult] | Awaitable[list[RewardResult]]:
        """The mark of each attempt. All of them are at one example."""
        ...

    def close(self) -> None:
        """Lets go of processes and connections."""
        ...


class RewardSettings(Variant):
    """One of the rewards whose weighted sum is learned from."""

    weight: float = Field(1.0, allow_inf_nan=False)
    """Factor of this reward in the sum. With 0 it is recorded and not learned from."""

    label: str = Field("", pattern=r"^[\w.-]*$")
    """Name of its metrics, as in `reward/NAME`. Empty: its own name."""

    @property
    def reads_answer(self) -> bool:
        """Whether it compares with the right answer of the data set."""
        return True

    @property
    def title(self) -> str:
        """The name of its metrics."""
        return self.label or self.name.rpartition(":")[2]

    @abstractmethod
    def make(self, answer_format: AnswerFormat) -> Reward:
        """The reward.

        Args:
            answer_format: How answers are cut out of responses.

        Raises:
            UserError: a package that it needs is not installed, or its settings cannot be used.
        """


class TextReward:
    """A reward that is computed at once from one attempt.

    Args:
        mark: Computes it.
    """

    compares = False

    def __init__(self, mark: Callable[[Attempt], RewardResult]) -> None:
        self._mark_of = mark

    @classmethod
    def of_answers(cls, mark: Callable[[str, Example], RewardResult]) -> "TextReward":
        """A reward of answers. It is 0 where there is none in the answer format."""
        return cls(
            lambda attempt: (
                NO_ANSWER if attempt.answer is None else mark(attempt.answer, attempt.example)
            )
        )

    def check(self, example: Example) -> None:
        """Takes every example."""

    def judge(self, attempts: Sequence[Attempt]) -> list[RewardResult]:
        """The mark of each attempt."""
        return [self._mark_of(attempt) for attempt in attempts]

    def close(self) -> None:
        """Holds nothing."""


NO_ANSWER = RewardResult(value=0.0, reason="no answer was found in the answer format")


def binary_result(right: bool) -> RewardResult:
    """1 for a right answer, else 0."""
    return RewardResult(value=float(right), reason=f"the answer is {'right' if right else 'wrong'}")
