"""The status of a run, as lines for a terminal or a log."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

SHOWN = (
    ("reward", "reward", "{:.3f}"),
    ("reward_after_reflection", "after reflection", "{:.3f}"),
    ("memory_writes", "remembered", "{:.0f}"),
    ("score", "score", "{:.3f}"),
    ("entropy", "entropy", "{:.3f}"),
    ("mismatch_kl_k3", "mismatch", "{:.1e}"),
    ("loss", "loss", "{:.3f}"),
)
"""(metric, label, format) of what is shown of a step."""


@dataclass(slots=True)
class StageStatus:
    """Steps of one stage. `first` of them were done when this process took it up."""

    name: str
    steps: int
    first: int
    began: float
    done: int = 0
    updated: float = 0.0
    ended: float | None = None

    def elapsed(self, now: float) -> float:
        """Seconds since the stage began."""
        return (now if self.ended is None else self.ended) - self.began

    def left(self, now: float) -> float | None:
        """Seconds to its end if steps take as long as those before; None before the first one."""
        if self.ended is not None:
            return 0.0
        taken = self.done - self.first
        if taken <= 0:
            return None
        per_step = (self.updated - self.began) / taken
        return max(0.0, per_step * (self.steps - self.done) - (now - self.updated))


@dataclass(slots=True)
class PhaseStatus:
    """The current phase of the run, and the latest count of each part of it."""

    name: str
    began: float
    usual: float | None = None
    """Seconds that it took the last time."""

    parts: dict[str, tuple[int, int]] = field(default_factory=dict)
    tokens: int = 0
    most_tokens: int = 0

    def left(self, now: float) -> float | None:
        """Seconds to its end: by the last time, or else by what is done; None if unknown."""
        elapsed = now - self.began
        if self.usual is not None and self.usual > elapsed:
            return self.usual - elapsed
        shares = [done / total for done, total in self.parts.values() if total]
        shares += [self.tokens / self.most_tokens] if self.most_tokens else []
        share = max(shares, default=0.0)
        return elapsed / share - elapsed if 0 < share < 1 else None


class RunStatus:
    """Hears of steps, phases and what is done of them.

    Args:
        clock: Seconds, from any moment on.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._usual: dict[tuple[str, str], float] = {}
        self.stages: dict[str, StageStatus] = {}
        self.stage: StageStatus | None = None
        self.phase: PhaseStatus | None = None
        self.metrics: dict[str, Any] = {}
        self.step = 0

    def begin(self, phase: str, stage: str, step: int, steps: int) -> None:
        """The run turns to `phase`."""
        now = self._clock()
        if self.phase is not None:
            place = (self.stage.name if self.stage else "", self.phase.name)
            self._usual[place] = now - self.phase.began
        if stage:
            self._turn_to(stage, steps, max(0, step - 1), now)
        else:
            self.stage = None  # the run starts, or starts again from its last checkpoint
        self.phase = PhaseStatus(phase, now, self._usual.get((stage, phase)))
        self.step = step

    def advance(
        self, part: str, done: int, total: int, tokens: int = 0, most_tokens: int = 0
    ) -> None:
        """Updates the progress of the current phase."""
        if self.phase is None:
            return
        self.phase.parts[part] = (done, total)
        if most_tokens:
            self.phase.tokens, self.phase.most_tokens = tokens, most_tokens

    def take_step(self, stage: str, step: int, steps: int, row: Mapping[str, Any]) -> None:
        """`step` steps of `stage` are done; `row` is what was measured in the last one."""
        now = self._clock()
        status = self._turn_to(stage, steps, max(0, step - 1), now)
        if step > 0:
            status.done, status.updated = step, now
        else:
            status.began = now  # the evaluation before the first step is not a step
        if step == steps:
            status.ended = now
        self.metrics |= row

    def _turn_to(self, name: str, steps: int, first: int, now: float) -> StageStatus:
        if name not in self.stages:
            self.metrics = {}
            self.stages[name] = StageStatus(name, steps, first, now, done=first)
        self.stage = self.stages[name]
        return self.stage

    def step_text(self, row: Mapping[str, Any]) -> str:
        """The metrics of `row` that tell whether all is well."""
        return "  ".join(
            f"{label} {form.format(row[name])}"
            for name, label, form in SHOWN
            if name in row and not (name == "loss" and "reward" in row)
        )

    def stage_text(self, status: StageStatus) -> str:
        """Elapsed time and time left of a stage."""
        now = self._clock()
        return f"elapsed {clock_text(status.elapsed(now))}  left {clock_text(status.left(now))}"

    def phase_elapsed(self) -> float:
        """Seconds since the current phase began; 0 without one."""
        return 0.0 if self.phase is None else self._clock() - self.phase.began

    def phase_text(self) -> str:
        """The current phase: completed counts, elapsed seconds, seconds left."""
        if self.phase is None:
            return ""
        phase, elapsed = self.phase, self.phase_elapsed()
        counts = [f"{done}/{total} {part}" for part, (done, total) in phase.parts.items()]
        counts += [f"{phase.tokens:,} tokens"] if phase.tokens else []
        left = phase.left(phase.began + elapsed) or 0.0
        times = [f"after {clock_text(elapsed)}"] if round(elapsed) else []
        times += [f"about {clock_text(left)} left"] if round(left) else []
        details = ", ".join([*counts, *times])
        return f"{phase.name}: {details}" if details else phase.name


def clock_text(seconds: float | None) -> str:
    """Hours, minutes and seconds."""
    if seconds is None:
        return "-:--:--"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
