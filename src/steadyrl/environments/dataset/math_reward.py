"""Reward for mathematical answers, compared by value."""

import asyncio
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

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
from steadyrl.environments.math_answers import isolated_agreement


class MathReward(RewardSettings):
    """1 if the answer equals the correct one, else 0, as in the environment `math`."""

    name: Literal["math"] = "math"

    require_simplified: bool | None = None
    """Whether answers must be simplified: 45 instead of 21 + 24. None: only if the answer is the
    whole response."""

    timeout: float = Field(5.0, gt=0.0)
    """Maximum seconds per comparison. Slower answers count as wrong."""

    judge_workers: int | None = Field(None, ge=1)
    """Number of worker processes that check answers concurrently. None: one per core. Does not
    affect rewards."""

    judge_memory: float = Field(8.0, ge=1.0, allow_inf_nan=False)
    """Maximum memory of a worker process in GiB. Answers that exceed it count as wrong. Linux
    only."""

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
        self._agree = isolated_agreement(
            timeout=settings.timeout,
            workers=settings.judge_workers,
            memory=int(settings.judge_memory * 2**30),
        )
        whole = answer_format is AnswerFormat.WHOLE
        self._require_simplified = (
            whole if settings.require_simplified is None else settings.require_simplified
        )

    def check(self, example: Example) -> None:
        """Accepts all examples."""

    async def judge(self, attempts: Sequence[Attempt]) -> list[RewardResult]:
        """Rewards of the attempts."""
        return await concurrently(map(self._mark, attempts))

    async def _mark(self, attempt: Attempt) -> RewardResult:
        if attempt.answer is None:
            return NO_ANSWER
        problem, right = attempt.example.prompt[-1].content, attempt.example.answer or ""
        judged = self._agree.submit(right, attempt.answer, problem, self._require_simplified)
        try:
            return binary_result(await asyncio.wrap_future(judged))
        except IsolationError as error:
            return RewardResult(
                value=0.0, reason=f"the answer could not be checked: it {error.reason}"
            )

    def close(self) -> None:
        """Stops the worker processes."""
        self._agree.close()
