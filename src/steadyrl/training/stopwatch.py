"""Timing of the parts of a step."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.records.token_batch import TokenBatch


class Stopwatch:
    """Seconds spent in each named part of a step.

    Args:
        progress: Is told when a part begins.
        stage: Name of the stage; like `step`, counted from 1, and `steps`, it is for `progress`.
    """

    def __init__(
        self, progress: Progress = NO_PROGRESS, *, stage: str = "", step: int = 0, steps: int = 0
    ) -> None:
        self._progress = progress
        self._place = {"step": step, "steps": steps}
        self._stage = stage
        self._started = time.perf_counter()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, part: str, *, phase: str | None = None) -> Iterator[None]:
        """Adds the time inside the block to `part`, which `progress` hears of as `phase`."""
        self._progress.begin(phase or part, stage=self._stage, **self._place)
        started = time.perf_counter()
        yield
        self._seconds[part] = self._seconds.get(part, 0.0) + time.perf_counter() - started

    def set(self, part: str, seconds: float) -> None:
        """Sets the time of `part`, in place of the time that this process spent waiting."""
        self._seconds[part] = seconds

    def seconds(self, part: str) -> dict[str, float]:
        """The metric with the time of `part`; empty if it was not measured."""
        return {f"{part}_seconds": self._seconds[part]} if part in self._seconds else {}

    def metrics(
        self,
        *,
        sampled: int,
        scored: Sequence[TokenBatch],
        updated: Sequence[TokenBatch],
    ) -> dict[str, float]:
        """Seconds of the step and of each part, and the tokens per second of parts with tokens.

        Scoring and update count all tokens of their rows, including prompts and rows that an exact
        shortcut skips.

        Args:
            sampled: Number of sampled tokens, including those that are not learned from.
        """
        counts = {
            "rollout": sampled,
            "scoring": sum(int(batch.attention_mask.sum()) for batch in scored),
            "update": sum(int(batch.attention_mask.sum()) for batch in updated),
        }
        metrics = {"seconds": time.perf_counter() - self._started}
        for part, tokens in counts.items():
            metrics |= self.seconds(part)
            if tokens:
                metrics[f"{part}_tokens_per_second"] = tokens / self._seconds[part]
        return metrics
