"""What is to be reached, and whether it was."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from benchmarks.performance.records import Row

NO_GPU = "no GPU"
NO_ROW = "no row yet: run its group"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A bound on a row's median."""

    row: str
    """The key of the row that it judges."""

    what: str
    bound: float
    direction: Literal["at least", "at most"]
    needs_gpu: bool = False

    def verdict(self, rows: Mapping[str, Row]) -> str:
        """Met, missed, or not measured and why."""
        row = rows.get(self.row)
        if row is None:
            return f"not measured: {NO_GPU if self.needs_gpu else NO_ROW}"
        if row.measured.value is None:
            return f"not measured: {row.measured.note}"
        median = row.measured.value.median
        reached = median >= self.bound if self.direction == "at least" else median <= self.bound
        return "met" if reached else "missed"


def _at_least(row: str, what: str, bound: float, *, needs_gpu: bool = False) -> Target:
    return Target(row=row, what=what, bound=bound, direction="at least", needs_gpu=needs_gpu)


def _at_most(row: str, what: str, bound: float) -> Target:
    return Target(row=row, what=what, bound=bound, direction="at most")


TARGETS = (
    _at_least("rollout-w2-generate", "rollout tokens/s, W2, against Transformers generate", 4),
    _at_least("rollout-w1-vllm", "rollout tokens/s, W1, against vLLM on CPU", 1),
    _at_least("rollout-w2-vllm", "rollout tokens/s, W2, against vLLM on CPU", 1),
    _at_most("update-w1-bare", "update time, all groups with signal, W1, of the bare loop's", 1.15),
    _at_most("update-w2-bare", "update time, all groups with signal, W2, of the bare loop's", 1.15),
    _at_most("update-w1-half", "update time, half of the groups without signal, W1, of all", 0.6),
    _at_most("update-w2-half", "update time, half of the groups without signal, W2, of all", 0.6),
    _at_most("update-w1-half-gradients", "gradients of these two, W1, relative difference", 1e-6),
    _at_most("update-w2-half-gradients", "gradients of these two, W2, relative difference", 1e-6),
    _at_least("step-w1-trl", "whole RL step, W1, against TRL", 2),
    _at_least("step-w2-trl", "whole RL step, W2, against TRL", 4),
    _at_least("learning-trl", "time from cold start to 0.85 accuracy, against TRL", 3),
    _at_most("memory-w4", "W4, peak memory beyond the trunk, of one (T, V) float32 block", 0.1),
    _at_most("recording-w1", "recording routes, W1, of rollout time", 0.02),
    _at_most("recording-w2", "recording routes, W2, of rollout time", 0.02),
    _at_most("replaying-w1", "replaying routes, W1, of update time", 0.01),
    _at_most("replaying-w2", "replaying routes, W2, of update time", 0.01),
    _at_least(
        "overlap-two-processes", "two overlapped processes on 2 cores, steps per second", 1.6
    ),
    *(
        target
        for dtype, rollout in (("float32", 1.4), ("bfloat16", 1.7))
        for target in (
            _at_least(f"w5-step-{dtype}", f"RL step by token, W5 in {dtype}, against TRL", 4),
            _at_least(
                f"w5-rollout-{dtype}", f"rollout tokens/s, W5 in {dtype}, against vLLM", rollout
            ),
            _at_least(
                f"w5-rollout-operations-{dtype}",
                f"rollout operations/s, W5 in {dtype}, of a large product's",
                0.65,
            ),
            _at_most(f"w5-update-{dtype}", f"update time, W5 in {dtype}, of the bare loop's", 1.0),
            _at_most(f"w5-memory-{dtype}", f"peak memory, W5 in {dtype}, of TRL's", 1.0),
        )
    ),
    _at_least(
        "rollout-w3-generate",
        "GPU, W3: rollout tokens/s against Transformers generate",
        10,
        needs_gpu=True,
    ),
    _at_least(
        "rollout-w3-bandwidth",
        "GPU, W3: share of the memory-bandwidth limit at batch 256",
        0.5,
        needs_gpu=True,
    ),
    _at_least("update-w3-mfu", "GPU, W3: update MFU in bf16", 0.4, needs_gpu=True),
    _at_least("rollout-w3-fp8", "GPU: FP8 rollout against bf16 rollout", 1.3, needs_gpu=True),
)
"""Ratios of medians."""
