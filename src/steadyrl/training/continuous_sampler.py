"""A sampler that never pauses: rollouts are sampled during updates and across syncs.

The schedule decides when the next units start, which a step consumes, and for which it waits. All
running units are coroutines on one engine, so new ones share batches with the last of the old ones.
After a sync they go on with the new weights; each token names the version that sampled it.

Nothing is lost or counted twice, whatever ends the run: what is sampled and not consumed, and which
units were running, is saved with the weights in a checkpoint. Units that were running start again
from the same tasks.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from steadyrl.algorithms.protocol import Algorithm, Plan, Rollout, SupportsParts, SupportsState
from steadyrl.engines.protocol import Engine
from steadyrl.records.plain_data import from_bytes, to_bytes
from steadyrl.records.trajectory import Group
from steadyrl.rollout.schedule import Schedule
from steadyrl.training.sampler import LocalSampler, PendingRollout, WaitingRollouts
from steadyrl.training.stage import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sampled:
    """A finished unit, and the state of the algorithm after it."""

    rollout: Rollout
    state: Any = None


class ContinuousSampler(LocalSampler):
    """Samples units of `stages` ahead, as far as `max_staleness` allows.

    All calls, and all that happens between them, belong in one event loop.

    Args:
        drops: Drop groups that exceed the bound instead of waiting for them.
    """

    def __init__(
        self, stages: Sequence[Stage], engine: Engine, *, max_staleness: int, drops: bool = False
    ) -> None:
        super().__init__(stages, engine)
        self._steps = [stage.steps for stage in stages]
        self._max_staleness = max_staleness
        self._drops = drops
        self._course: tuple[int, Course] | None = None
        """Number of the present stage, and its units."""
        self._loaded: WaitingRollouts | None = None

    async def begin(self, stage: int, step: int) -> PendingRollout:
        """Returns what starts the units that may start, and waits for those of the step."""
        if self._course is None or self._course[0] != stage:
            self._course = (stage, self._new_course(stage, step))
        course = self._course[1]
        assert course.schedule.step == step, "rollouts are consumed in the order of their steps"
        return course.take

    async def publish(self) -> None:
        """Records that the engine has received the weights after the last step."""
        if self._course is not None:
            self._course[1].publish()

    def state(self, stage: int) -> Any:
        """State of the algorithm after the units that were consumed; None if it has none."""
        if self._course is None or self._course[0] != stage:
            return super().state(stage)
        return self._course[1].state

    def waiting(self, stage: int) -> WaitingRollouts | None:
        """What has started and is not consumed."""
        if self._course is None or self._course[0] != stage:
            return None
        return self._course[1].waiting()

    def load_waiting(self, stage: int, waiting: WaitingRollouts) -> None:
        """Restores `waiting()`: the next rollout comes from it."""
        self._loaded = waiting

    @property
    def schedule(self) -> dict[str, Any] | None:
        """State of the schedule with which all that is not consumed is sampled again; None before
        the first rollout.
        """
        return None if self._course is None else self._course[1].schedule.state() | {"finished": []}

    async def start_again(self, stage: int, schedule: Mapping[str, Any]) -> None:
        """Goes on from a `schedule`, with the weights that the engine has."""
        self.load_waiting(stage, WaitingRollouts(schedule=schedule, finished=to_bytes({})))
        await self.begin(stage, schedule["step"])

    def _new_course(self, stage: int, step: int) -> "Course":
        algorithm = self._algorithms[stage]
        splits = isinstance(algorithm, SupportsParts) and algorithm.plays_parts
        per_step = len(algorithm.plan(step).tasks) if splits else 1
        schedule = Schedule(
            per_step=per_step,
            max_staleness=self._max_staleness,
            drops=self._drops,
            units=self._steps[stage] * per_step,
            step=step,
            version=step,
            cursor=step * per_step,
        )
        course = Course(algorithm, self._engine, schedule, splits=splits)
        if self._loaded is not None:
            course.restore(self._loaded)
            self._loaded = None
        return course


class Course:
    """The units of a stage: running, finished and consumed.

    Args:
        splits: Each task is a unit. Otherwise each step is one, and they are played one after
            another.
    """

    def __init__(
        self, algorithm: Algorithm, engine: Engine, schedule: Schedule, *, splits: bool
    ) -> None:
        self.schedule = schedule
        self.state = _state(algorithm)
        """State of the algorithm after the units that were consumed."""
        self._algorithm = algorithm
        self._engine = engine
        self._splits = splits
        self._planned: tuple[int, tuple[Plan, ...]] = (-1, ())
        """A step, and the plan of each of its units."""
        self._turn = asyncio.Lock()
        self._running: dict[int, asyncio.Task[_Sampled]] = {}
        self._finished: dict[int, _Sampled] = {}
        self._dropped: list[Group] = []
        self._consumed_at = time.perf_counter()

    def start(self) -> None:
        """Starts all units that may start now."""
        self._run(self.schedule.start())

    def publish(self) -> None:
        """Records that the engine has the newest weights. The next `start` uses them."""
        self.schedule.publish()

    async def take(self) -> Rollout:
        """The rollout of the next step, once its units are sampled."""
        self._collect()
        if self.schedule.ready is None:
            self.start()
        else:  # later, so that a rollout which is ready need not wait for it
            asyncio.get_running_loop().call_soon(self.start)
        while self.schedule.ready is None:
            await asyncio.wait(self._running.values(), return_when=asyncio.FIRST_COMPLETED)
            self._collect()
        units, expired = self.schedule.take()
        consumed = [self._finished.pop(unit) for unit in units]
        self.state = consumed[-1].state
        for unit in expired:
            self._dropped += self._finished.pop(unit).rollout.groups
        self.start()  # in place of those that are dropped
        now = time.perf_counter()
        rollout = _joined([sampled.rollout for sampled in consumed])
        rollout = replace(
            _with_versions(rollout, self._engine.policy_version),
            seconds=now - self._consumed_at,
            dropped=tuple(self._dropped) if self.schedule.drops else None,
        )
        self._consumed_at, self._dropped = now, []
        return rollout

    def waiting(self) -> WaitingRollouts:
        """What has started and is not consumed."""
        self._collect()
        kept = {n: each.rollout for n, each in self._finished.items()} if self._splits else {}
        schedule = self.schedule.state() | {"finished": sorted(kept)}
        return WaitingRollouts(schedule=schedule, finished=to_bytes(kept))

    def restore(self, waiting: WaitingRollouts) -> None:
        """Restores what `waiting()` returned, and starts the units again that were running."""
        finished: dict[int, Rollout] = from_bytes(dict[int, Rollout], waiting.finished)
        self._finished = {unit: _Sampled(rollout=rollout) for unit, rollout in finished.items()}
        self._run(self.schedule.restore(waiting.schedule))

    def _run(self, units: Sequence[int]) -> None:
        for unit in units:
            self._running[unit] = asyncio.ensure_future(self._play(self._plan_of(unit)))

    async def _play(self, plan: Plan) -> _Sampled:
        if self._splits:
            return _Sampled(rollout=await self._algorithm.play(plan, self._engine))
        async with self._turn:
            rollout = await self._algorithm.play(plan, self._engine)
            return _Sampled(rollout=rollout, state=_state(self._algorithm))

    def _plan_of(self, unit: int) -> Plan:
        step, place = divmod(unit, self.schedule.per_step)
        if self._planned[0] != step:
            plan = self._algorithm.plan(step)
            self._planned = (step, plan.parts if self._splits else (plan,))
        return self._planned[1][place]

    def _collect(self) -> None:
        """Takes over the units that have finished since.

        Raises:
            Exception: that of a unit which failed.
        """
        done = [unit for unit, task in self._running.items() if task.done()]
        for unit in done:
            sampled = self._running.pop(unit).result()
            if self.schedule.finish(unit):
                self._finished[unit] = sampled
            else:
                self._dropped += sampled.rollout.groups


def _state(algorithm: Algorithm) -> Any:
    return algorithm.state() if isinstance(algorithm, SupportsState) else None


def _joined(parts: Sequence[Rollout]) -> Rollout:
    """The rollouts of parts as one. That of a whole step is returned as it is."""
    if len(parts) == 1:
        return parts[0]
    return Rollout(
        groups=tuple(group for part in parts for group in part.groups),
        failures=tuple(failure for part in parts for failure in part.failures),
        memory_writes=tuple(write for part in parts for write in part.memory_writes),
    )


def _with_versions(rollout: Rollout, present: int) -> Rollout:
    """`rollout` with the versions of its tokens; without any token, the `present` one."""
    completions = [c for g in rollout.groups for t in g.trajectories for c in t.completions]
    sampled = [c.token_versions for c in completions if len(c.token_ids)]
    versions = torch.cat(sampled) if sampled else torch.tensor([present])
    return replace(
        rollout,
        policy_version=int(versions.min()),
        mean_version=versions.double().mean().item(),
    )
