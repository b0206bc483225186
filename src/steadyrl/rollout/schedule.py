"""When rollouts may start, and when a step may consume them: staleness bounded by pacing.

    start     starts the next units in the order of the plan, as far as the bound allows
    finish    a unit is sampled, and waits to be consumed
    take      the next step consumes `per_step` units
    publish   the engine has received the weights of all steps so far, so more may start

A unit is a group of episodes, or a whole step's rollout. With `V` versions published, at most
`(V + max_staleness + 1) * per_step` units have started. So a unit whose first token is sampled with
version `v` is consumed by a step that begins with version `v + max_staleness` or an earlier one,
and none is thrown away: generation waits instead.

    max_staleness 0, per_step 2     start 0 1 | take 0 1, update, publish | start 2 3 | ...
    max_staleness 1, per_step 2     start 0 1 2 3 | take 0 1, update, publish | start 4 5 | ...

This is bookkeeping only, without clock, engine or tensors, so simulations use it too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, kw_only=True)
class Schedule:
    """Units that have started and wait to be consumed, and how many more may start.

    Units are numbered in the order of the plan: unit `n` is task `n % per_step` of step
    `n // per_step`, as long as none is dropped.

    Example:
        schedule = Schedule(per_step=2, max_staleness=1)
        running = schedule.start()          # [0, 1, 2, 3]
        for unit in (0, 1):
            schedule.finish(unit)
        schedule.take()                     # (0, 1), (): consumed and dropped
        schedule.publish()                  # after the update
        running += schedule.start()         # [4, 5]
    """

    per_step: int
    max_staleness: int

    drops: bool = False
    """False: a step consumes the oldest units and waits until they are finished. True: it consumes
    the oldest finished ones, and units that would exceed the bound after it are dropped. Others
    start in their place."""

    units: int | None = None
    """Number of units that the steps consume in all; None: no end."""

    step: int = 0
    """Number of steps that have consumed their units."""

    version: int = 0
    """Number of steps whose weights have been published."""

    cursor: int = 0
    """Number of units that have started, which is the next one to start."""

    dropped: int = 0
    """Number of units that are dropped."""

    waiting: dict[int, int] = field(default_factory=dict)
    """Version at the start of each unit that has started and is not consumed, in order."""

    finished: set[int] = field(default_factory=set)
    """Units of `waiting` that are sampled."""

    late: set[int] = field(default_factory=set)
    """Dropped units that are still running."""

    def start(self) -> list[int]:
        """Starts all units that may start now, and returns their numbers."""
        kept = (self.version + self.max_staleness + 1) * self.per_step
        limit = self.dropped + (kept if self.units is None else min(kept, self.units))
        started = list(range(self.cursor, limit))
        self.waiting |= dict.fromkeys(started, self.version)
        self.cursor = max(self.cursor, limit)
        return started

    def finish(self, unit: int) -> bool:
        """Records that a running unit is sampled; returns whether it is kept."""
        if unit in self.late:
            self.late.remove(unit)
            return False
        assert unit in self.waiting, f"unit {unit} is not running"
        self.finished.add(unit)
        return True

    @property
    def ready(self) -> tuple[int, ...] | None:
        """The units that the next step consumes, in order; None: it must wait for one."""
        usable = [unit for unit in self.waiting if not self.drops or unit in self.finished]
        chosen = tuple(usable[: self.per_step])
        return chosen if len(chosen) == self.per_step and self.finished.issuperset(chosen) else None

    def take(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Consumes the units of the next step, which must be ready.

        Returns:
            The consumed units, and finished ones that are dropped.
        """
        chosen = self.ready
        assert chosen is not None, "the units of the next step are not finished"
        self.step += 1
        oldest = self.step - self.max_staleness
        for unit in chosen:
            del self.waiting[unit]
        expired = [unit for unit, version in self.waiting.items() if version < oldest]
        for unit in expired:
            del self.waiting[unit]
        self.dropped += len(expired)
        self.late.update(unit for unit in expired if unit not in self.finished)
        dropped = tuple(unit for unit in expired if unit in self.finished)
        self.finished.difference_update(chosen, dropped)
        return chosen, dropped

    def publish(self) -> None:
        """Records that the engine has received the weights of all steps taken."""
        self.version = self.step

    def state(self) -> dict[str, Any]:
        """The schedule as values that JSON can represent. What is late is already counted."""
        return {
            "step": self.step,
            "version": self.version,
            "cursor": self.cursor,
            "dropped": self.dropped,
            "waiting": [[unit, version] for unit, version in self.waiting.items()],
            "finished": sorted(self.finished),
        }

    def restore(self, state: Mapping[str, Any]) -> list[int]:
        """Continues from `state()`; returns the unfinished units, which start again.

        The weights of the state's version must have been published.
        """
        self.step = state["step"]
        self.version = state.get("version", self.step)
        self.cursor, self.dropped = state["cursor"], state["dropped"]
        self.finished, self.late = set(state["finished"]), set()
        self.waiting = dict(state["waiting"])
        again = [unit for unit in self.waiting if unit not in self.finished]
        self.waiting |= dict.fromkeys(again, self.version)
        return again
