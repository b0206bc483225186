"""Reward for mathematical answers, compared by value."""

import asyncio
from collections.abc import Sequence
from typing import Literal

from steadyrl.base.concurrency import concurrently
from steadyrl.base.isolation import IsolationError
from steadyrl.environments.answer_formats import AnswerFormat
from steadyrl.environments.dataset.examples import Example
from steadyrl.environments.dataset.rewards import (
    NO_ANSWER,
    Attempt,
    RewardResult,
    RewardSettings,
    binary_result,
)
from steadyrl.environments.math_answers import MathJudgeSettings, isolated_agreement


class MathReward(RewardSettings, MathJudgeSettings):
    """1 if the answer equals the correct one, else 0, as in the environment `math`."""

    name: Literal["math"] = "math"

    def make(self, answer_format: AnswerFormat) -> "MathJudge":
        """The judge. Its worker processes start with the first answer.

        Raises:
            UserError: math-verify is not installed.
        """
        return MathJudge(self, answer_format)


class MathJudge:
    """Compares answers concurrently in worker processes."""

    compares = False

    def __init__(self, settings: MathReward, answer_format: AnswerFormat) -> None:
        self._agree = isolated_agreement(**settings.judge_limits)
        self._require_simplified = settings.requires_simplified(answer_format)

    def check(self, example: Example) -> None:
        """Accepts all examples."""

    async def judge(self, attempts: Sequence[Attempt]) -> list[RewardResult]:
        """Rewards of the attempts."""
        return await concurrently(map(self._mark, attempts))

    async def _mark(self, attempt: Attempt) -> RewardResult:
        if attempt.answer is None:
            return NO_ANSWER
        problem, right = attempt.example.prompt[-1].content, attempt.example.answer or ""
        future = self._agree.submit(right, attempt.answer, problem, self._require_simplified)
        try:
            return binary_result(await asyncio.wrap_future(future))
        except IsolationError as error:
            return RewardResult(
                value=0.0, reason=f"the answer could not be checked: it {error.reason}"
            )

    def close(self) -> None:
        """Stops the worker processes."""
        self._agree.close()
