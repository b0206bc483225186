"""What a group of rows is given to work with."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from benchmarks.performance.records import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Where and how thoroughly to measure."""

    device: torch.device

    work: Path
    """A folder for checkpoints and logs, kept between runs."""

    vllm_python: Path
    """The interpreter of the environment that has vLLM."""

    quick: bool
    """One round of everything: to see that it works, not to quote."""

    def rounds(self, count: int) -> int:
        """Paired measurements that count."""
        return 1 if self.quick else count


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rows that are measured together, in one process."""

    name: str

    rows: Callable[[Context], Iterator[Row]]

    device: str = "cpu"
    """Where it is measured when nothing else is asked for."""

    minutes: float
    """What it takes on two quiet cores."""

    always: bool = True
    """Whether it is measured when no group is named."""

    def is_named(self, names: Sequence[str]) -> bool:
        """Whether one of `names` is its name or, as `w5` of `w5-step-float32`, its beginning."""
        return any(self.name == name or self.name.startswith(f"{name}-") for name in names)
