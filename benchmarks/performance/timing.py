"""Paired measurements: competitors take turns, and each round gives one ratio.

The speed of a machine drifts by more than what is to be measured, so times taken minutes apart are
never compared. Rounds are A B, B A, A B, ...: what being first costs, everyone pays in turn.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from benchmarks.performance.records import Spread, exact


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One timed piece of work."""

    seconds: float
    """By the clock on the wall."""

    processor_seconds: float
    """Of the process that did it, all threads together."""

    tokens: int
    """Tokens it really produced or learned from; 1 where the work is not counted in tokens."""


Timed = Callable[[], Sample]


def timed(work: Callable[[], int], device: torch.device) -> Sample:
    """How long `work` took, which returns its tokens."""
    synchronize(device)
    wall, processor = time.perf_counter(), time.process_time()
    tokens = work()
    synchronize(device)
    return Sample(
        seconds=time.perf_counter() - wall,
        processor_seconds=time.process_time() - processor,
        tokens=tokens,
    )


def synchronize(device: torch.device) -> None:
    """Waits for what was given to a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def interleaved(
    competitors: Mapping[str, Timed], *, rounds: int, warmups: int = 1
) -> dict[str, list[Sample]]:
    """One sample of each competitor for each of `rounds`, after `warmups` that do not count."""
    samples: dict[str, list[Sample]] = {name: [] for name in competitors}
    for number in range(-warmups, rounds):
        for name in competitors if number % 2 == 0 else reversed(competitors):
            sample = competitors[name]()
            if number >= 0:
                samples[name].append(sample)
    return samples


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles of one value for each round."""
    if len(values) == 1:
        return exact(values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median=median, low=low, high=high, rounds=len(values))


def time_ratio(
    ours: Sequence[Sample], peers: Sequence[Sample], *, clock: str = "seconds"
) -> Spread:
    """Our time over the peer's for equal work, pair by pair."""
    pairs = zip(ours, peers, strict=True)
    return spread([getattr(our, clock) / getattr(peer, clock) for our, peer in pairs])


def rate_ratio(
    ours: Sequence[Sample], peers: Sequence[Sample], *, clock: str = "seconds"
) -> Spread:
    """Our tokens per second over the peer's, pair by pair."""
    return spread(
        [
            (our.tokens / getattr(our, clock)) / (peer.tokens / getattr(peer, clock))
            for our, peer in zip(ours, peers, strict=True)
        ]
    )


def summary(samples: Sequence[Sample]) -> dict[str, float]:
    """Medians of one competitor's samples."""
    seconds = statistics.median(sample.seconds for sample in samples)
    return {
        "seconds": seconds,
        "processor_seconds": statistics.median(sample.processor_seconds for sample in samples),
        "tokens": statistics.median(sample.tokens for sample in samples),
        "tokens_per_second": statistics.median(s.tokens / s.seconds for s in samples),
    }
