"""Protocol and base classes of rewards."""

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
    """Answer in the response, without thinking; None if the response does not follow the answer
    format."""

    token_ids: tuple[int, ...] = ()
    """Tokens of the response with its end token, for comparing rewards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardResult:
    """Value of a reward for one attempt.

    Example:
        RewardResult(value=0.0, reason="the answer is wrong")
    """

    value: float | None
    """The reward; None if it does not apply to the example."""

    reason: str = ""
    """Explanation that does not reveal the correct answer."""


@runtime_checkable
class Reward(Protocol):
    """Judges attempts at examples."""

    @property
    def compares(self) -> bool:
        """Whether all attempts at an example are judged together."""
        ...

    def check(self, example: Example) -> None:
        """Checks that attempts at `example` can be judged.

        Raises:
            InvalidRowError: they cannot, for example because the answer is malformed.
        """
        ...

    def judge(
        self, attempts: Sequence[Attempt]
    ) -> list[RewardResult] | Awaitable[list[RewardResult]]:
        """Rewards of the attempts, all at the same example."""
        ...

    def close(self) -> None:
        """Closes processes and connections."""
        ...


class RewardSettings(Variant):
    """Base class of reward settings. The weighted sum of all rewards is trained on."""

    weight: float = Field(1.0, allow_inf_nan=False)
    """Weight in the sum. A reward of weight 0 is recorded but not trained on."""

    label: str = Field("", pattern=r"^[\w.-]*$")
    """Name of the metrics, as in `reward/NAME`. Empty: the name of the reward."""

    @property
    def reads_answer(self) -> bool:
        """Whether it compares with the correct answer of the dataset."""
        return True

    @property
    def title(self) -> str:
        """Name of the metrics."""
        return self.label or self.name.rpartition(":")[2]

    @abstractmethod
    def make(self, answer_format: AnswerFormat) -> Reward:
        """The reward.

        Args:
            answer_format: Format in which responses state their answers.

        Raises:
            UserError: a required package is not installed, or the settings are invalid.
        """


class TextReward:
    """A reward computed synchronously from one attempt.

    Args:
        mark: Function that computes the result.
    """

    compares = False

    def __init__(self, mark: Callable[[Attempt], RewardResult]) -> None:
        self._mark_of = mark

    @classmethod
    def of_answers(cls, mark: Callable[[str, Example], RewardResult]) -> "TextReward":
        """A reward of the extracted answer, which is 0 if there is none."""
        return cls(
            lambda attempt: (
                NO_ANSWER if attempt.answer is None else mark(attempt.answer, attempt.example)
            )
        )

    def check(self, example: Example) -> None:
        """Accepts all examples."""

    def judge(self, attempts: Sequence[Attempt]) -> list[RewardResult]:
        """Rewards of the attempts."""
        return [self._mark_of(attempt) for attempt in attempts]

    def close(self) -> None:
        """Does nothing."""


NO_ANSWER = RewardResult(value=0.0, reason="no answer was found in the answer format")


def binary_result(right: bool) -> RewardResult:
    """1 for a correct answer, else 0."""
    return RewardResult(value=float(right), reason=f"the answer is {'right' if right else 'wrong'}")
