"""A simulation of asynchronous training: engines, a learner and syncs, event by event.

    Schedule.start --> sequences on the engines --> Schedule.finish --> ready?
         ^                                                                |
         +-- Schedule.publish <-- sync <-- update <-- Schedule.take <-----+

The schedule is the code that paces real runs. Engines decode their running sequences together, so a
token takes longer the more are running; a sync stops all of them; a failed engine begins its
sequences again. Where engines and learner share a machine, both are slower while both compute.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

import numpy as np

from steadyrl.planning.simulated_cluster import SimulatedCluster
from steadyrl.rollout.schedule import Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedRun:
    """Results of a simulation.

    Example:
        simulate(cluster, max_staleness=1).step_seconds
    """

    step_seconds: float
    """Mean time from one step to the next, after the first quarter of the steps."""

    learner_idle: float
    """Share of that time in which the learner waits for rollouts."""

    staleness: float
    """Mean number of versions between the start of a group and its update."""

    failures: int


@dataclass(slots=True)
class _Engine:
    """Sequences of one engine. `decoded` counts tokens, `clock` is when it was counted."""

    cluster: SimulatedCluster
    slow: float
    running: list[tuple[float, float, float, int]] = field(default_factory=list)
    """End and begin on the count of tokens, length, and group of each sequence."""

    waiting: deque[tuple[float, int]] = field(default_factory=deque)
    decoded: float = 0.0
    clock: float = 0.0
    token_seconds: float = 1.0
    speed: float = 1.0
    """As a share of that of an engine beside which nothing computes."""

    stamp: int = 0
    """Number of changes; events of earlier ones mean nothing."""

    @property
    def load(self) -> int:
        return len(self.running) + len(self.waiting)

    @property
    def next_end(self) -> float:
        """Time at which the next sequence ends."""
        if not self.running:
            return math.inf
        return self.clock + (self.running[0][0] - self.decoded) * self.token_seconds

    def settle(self, now: float) -> None:
        """Counts the tokens up to `now`."""
        if now > self.clock:
            self.decoded += (now - self.clock) / self.token_seconds if self.running else 0.0
            self.clock = now

    def end_next(self) -> int:
        """Ends the sequence that is due; returns its group."""
        self.decoded = max(self.decoded, self.running[0][0])
        return heappop(self.running)[3]

    def fill(self) -> None:
        """Begins waiting sequences while slots are free, and sets the time of a token."""
        cluster, begun = self.cluster, 0
        while self.waiting and len(self.running) < cluster.slots:
            length, unit = self.waiting.popleft()
            heappush(self.running, (self.decoded + length, self.decoded, length, unit))
            begun += 1
        self.stamp += 1
        if begun:
            read = cluster.prompt * begun / cluster.group
            seconds = cluster.cost.prefill_seconds(read, float(cluster.prompt))
            self.clock += self.slow * seconds / self.speed
        if self.running:
            ages = sum(self.decoded - row[1] for row in self.running) / len(self.running)
            context = cluster.prompt + ages + (self.running[0][0] - self.decoded) / 2
            seconds = cluster.cost.decode_seconds(float(len(self.running)), context)
            self.token_seconds = self.slow * seconds / self.speed

    def fail(self, resumed: float) -> None:
        """Loses the tokens of all running sequences, which begin again at `resumed`."""
        self.waiting.extendleft((row[2], row[3]) for row in self.running)
        self.running.clear()
        self.clock = resumed


@dataclass(slots=True)
class _Learner:
    """The updates of a step. `left` is the time that they would take alone, as of `clock`."""

    left: float = 0.0
    clock: float = 0.0
    speed: float = 1.0
    stamp: int = 0
    """Number of changes; events of earlier ones mean nothing."""

    computes: bool = False

    def begin(self, now: float, seconds: float) -> None:
        """Begins updates that take so long alone."""
        self.left, self.clock, self.computes = seconds, now, True

    def set_speed(self, now: float, speed: float) -> None:
        """Goes on at another speed."""
        self.left -= (now - self.clock) * self.speed
        self.clock, self.speed = now, speed
        self.stamp += 1

    @property
    def end(self) -> float:
        """Time at which the updates end."""
        return self.clock + self.left / self.speed


END, FAILURE, TRAINED, SYNCED = range(4)


class _Simulation:
    """One run: its events and the state of its parts."""

    def __init__(self, cluster: SimulatedCluster, schedule: Schedule, seed: int) -> None:
        self.cluster = cluster
        self.schedule = schedule
        self.random = np.random.default_rng(seed)
        slow = round(cluster.disturbances.slow_share * cluster.engines)
        self.engines = [
            _Engine(cluster, cluster.disturbances.slowdown if number < slow else 1.0)
            for number in range(cluster.engines)
        ]
        self.events: list[tuple[float, int, int, int, int]] = []
        self.order = self.failures = 0
        self.left: dict[int, int] = {}
        self.training = False
        self.learner = _Learner()
        self.began = 0.0
        self.updates: list[float] = []
        """Seconds of the updates of each step."""
        self.published: list[float] = []
        self.stale: list[int] = []

    def run(self, steps: int) -> None:
        """Takes so many steps."""
        for number in range(self.cluster.engines):
            self._plan_failure(number, 0.0)
        self._start(0.0)
        while len(self.published) < steps:
            now, _, kind, number, stamp = heappop(self.events)
            if kind == END and stamp == self.engines[number].stamp:
                self._end(now, number)
            elif kind == FAILURE:
                self._fail(now, number)
            elif kind == TRAINED and stamp == self.learner.stamp:
                self._pause(now)
            elif kind == SYNCED:
                self._publish(now)
            if self.cluster.speed_together < 1:
                self._share(now)

    def _push(self, time: float, kind: int, number: int = 0, stamp: int = 0) -> None:
        self.order += 1
        heappush(self.events, (time, self.order, kind, number, stamp))

    def _start(self, now: float) -> None:
        """Gives new groups to the engines with the least to do."""
        units = self.schedule.start()
        loads = [(engine.load, number) for number, engine in enumerate(self.engines)]
        heapify(loads)
        for unit in units:
            load, number = heappop(loads)
            lengths = self.cluster.lengths.draw(self.cluster.group, self.random)
            self.engines[number].waiting.extend((length, unit) for length in lengths)
            self.left[unit] = len(lengths)
            heappush(loads, (load + len(lengths), number))
        for number in range(len(self.engines)):
            self._go_on(now, number)

    def _go_on(self, now: float, number: int) -> None:
        engine = self.engines[number]
        engine.settle(now)
        engine.fill()
        if engine.running:
            self._push(engine.next_end, END, number, engine.stamp)

    def _end(self, now: float, number: int) -> None:
        engine = self.engines[number]
        engine.settle(now)
        unit = engine.end_next()
        self.left[unit] -= 1
        if not self.left[unit]:
            del self.left[unit]
            self.schedule.finish(unit)
            self._train(now)
        self._go_on(now, number)

    def _train(self, now: float) -> None:
        ready = self.schedule.ready
        if self.training or ready is None:
            return
        self.stale += [self.schedule.step - self.schedule.waiting[unit] for unit in ready]
        self.schedule.take()
        self.training = True
        self.began = now
        self.learner.begin(now, self.cluster.train_seconds)
        self._push(self.learner.end, TRAINED, stamp=self.learner.stamp)

    def _share(self, now: float) -> None:
        """Sets the speeds, if what computes at the same time has changed."""
        both = self.learner.computes and any(engine.running for engine in self.engines)
        speed = self.cluster.speed_together if both else 1.0
        if speed == self.learner.speed:
            return
        self.learner.set_speed(now, speed)
        if self.learner.computes:
            self._push(self.learner.end, TRAINED, stamp=self.learner.stamp)
        for number, engine in enumerate(self.engines):
            engine.settle(now)
            engine.speed = speed
            self._go_on(now, number)

    def _pause(self, now: float) -> None:
        """All engines stop until the sync is over."""
        self.learner.computes = False
        self.updates.append(now - self.began)
        until = now + self.cluster.sync_seconds
        for number, engine in enumerate(self.engines):
            engine.settle(now)
            engine.clock = max(engine.clock, until)
            self._go_on(now, number)
        self._push(until, SYNCED)

    def _publish(self, now: float) -> None:
        self.schedule.publish()
        self.published.append(now)
        self.training = False
        self._start(now)
        self._train(now)

    def _plan_failure(self, number: int, now: float) -> None:
        hours = self.cluster.disturbances.hours_between_failures
        if math.isfinite(hours):
            self._push(now + self.random.exponential(hours * 3600), FAILURE, number)

    def _fail(self, now: float, number: int) -> None:
        self.failures += 1
        resumed = now + self.cluster.disturbances.restart_seconds
        self.engines[number].settle(now)
        self.engines[number].fail(resumed)
        self._go_on(now, number)
        self._plan_failure(number, resumed)


def simulate(
    cluster: SimulatedCluster, *, max_staleness: int, steps: int = 12, seed: int = 0
) -> SimulatedRun:
    """Simulates `steps` steps.

    Args:
        max_staleness: Versions by which the start of a rollout may lag its update.
    """
    schedule = Schedule(per_step=cluster.groups, max_staleness=max_staleness)
    simulation = _Simulation(cluster, schedule, seed)
    simulation.run(steps)
    skipped = steps // 4
    times: Sequence[float] = [0.0, *simulation.published][skipped:]
    step = (times[-1] - times[0]) / (len(times) - 1)
    updates = simulation.updates[skipped:]
    busy = sum(updates) / len(updates) + cluster.sync_seconds
    stale = simulation.stale[skipped * cluster.groups :]
    return SimulatedRun(
        step_seconds=step,
        learner_idle=max(0.0, 1 - busy / step),
        staleness=sum(stale) / len(stale),
        failures=simulation.failures,
    )
