"""Where the time of a step goes."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from steadyrl.records.token_batch import TokenBatch


class Stopwatch:
    """Seconds spent in each named part of a step."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Adds the time inside the block to `part`."""
        started = time.perf_counter()
        yield
        self._seconds[part] = self._seconds.get(part, 0.0) + time.perf_counter() - started

    def set(self, part: str, seconds: float) -> None:
        """Says how long `part` took where this process only waited for it."""
        self._seconds[part] = seconds

    def metrics(
        self,
        *,
        sampled: int,
        scored: Sequence[TokenBatch],
        updated: Sequence[TokenBatch],
    ) -> dict[str, float]:
        """Seconds of the step, and tokens per second of each part that had any.

        Scoring and update count all tokens of their rows, prompts included, those of rows that an
        exact shortcut left out too.

        Args:
            sampled: Tokens that were sampled, of what is not learned from too.
        """
        counts = {
            "rollout": sampled,
            "scoring": sum(int(batch.attention_mask.sum()) for batch in scored),
            "update": sum(int(batch.attention_mask.sum()) for batch in updated),
        }
        metrics = {"seconds": time.perf_counter() - self._started}
        for part, tokens in counts.items():
            if tokens:
                metrics[f"{part}_tokens_per_second"] = tokens / self._seconds[part]
        return metrics
