"""Settings of worker processes that judge answers."""

from typing import TypedDict

from pydantic import Field

from steadyrl.base.settings import Settings


class JudgeLimits(TypedDict):
    """Keyword arguments of an isolated function."""

    timeout: float
    workers: int | None
    memory: int


class JudgeSettings(Settings):
    """Limits of the worker processes that judge answers."""

    timeout: float = Field(5.0, gt=0.0)
    """Maximum seconds per judged answer. Slower answers count as wrong."""

    judge_workers: int | None = Field(None, ge=1)
    """Number of worker processes that judge answers concurrently. None: one per core. Does not
    affect rewards."""

    judge_memory: float = Field(8.0, ge=1.0, allow_inf_nan=False)
    """Maximum memory of a worker process in GiB. Answers that exceed it count as wrong. Linux
    only."""

    @property
    def judge_limits(self) -> JudgeLimits:
        """The limits, with the memory in bytes."""
        return {
            "timeout": self.timeout,
            "workers": self.judge_workers,
            "memory": int(self.judge_memory * 2**30),
        }
