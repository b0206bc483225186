"""The queue: which weights sample each rollout, and in what order."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyrl.algorithms.protocol import Plan, Rollout
from steadyrl.engines.driver import drive
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.training.rollout_queue import RolloutQueue
from steadyrl.training.sampler import LocalSampler, PendingRollout, Sampler
from steadyrl.training.stage import Stage
from tests.learners.small import Idle
from tests.rollout.fakes import ScriptedEngine


class VersionSampler:
    """Notes which weights sample which step. A test sets the weights."""

    def __init__(self) -> None:
        self.version = 0
        self.begun: list[int] = []

    async def begin(self, stage: int, step: int) -> PendingRollout:
        self.begun.append(step)
        rollout = Rollout(policy_version=self.version)

        async def finished() -> Rollout:
            return rollout

        return finished

    async def take_reference(self, stage: int, reference: Any) -> None:
        raise AssertionError

    def state(self, stage: int) -> Any:
        raise AssertionError

    def load_state(self, stage: int, state: Any) -> None:
        raise AssertionError

    def waiting(self, stage: int) -> None:
        raise AssertionError

    def load_waiting(self, stage: int, waiting: Any) -> None:
        raise AssertionError


def versions(
    steps: int, max_staleness: int, is_boundary: Callable[[int], bool], start: int = 0
) -> list[int]:
    """The weights that sample each step from `start` on, where each step makes one version."""
    sampler = VersionSampler()
    queue = RolloutQueue(sampler, 0, start, max_staleness=max_staleness, is_boundary=is_boundary)
    found = []
    for step in range(start, steps):
        sampler.version = step
        found.append(drive(queue.take()).policy_version)
    assert sampler.begun == list(range(start, steps))
    return found


def every(number: int, steps: int) -> Callable[[int], bool]:
    """Checkpoints as a run has them."""
    return lambda step: step % number == 0 or step == steps


@pytest.mark.parametrize(
    ("max_staleness", "expected"),
    [
        (0, [0, 1, 2, 3, 4, 5, 6, 7]),
        # Step 0 begins two rollouts. Step 5 follows a checkpoint, so it is sampled by itself.
        (1, [0, 0, 1, 2, 3, 5, 5, 6]),
        (2, [0, 0, 0, 1, 2, 5, 5, 5]),
        (4, [0, 0, 0, 0, 0, 5, 5, 5]),
    ],
)
def test_rollouts_are_sampled_ahead_up_to_the_next_checkpoint(
    max_staleness: int, expected: list[int]
) -> None:
    assert versions(8, max_staleness, every(5, 8)) == expected


@given(
    steps=st.integers(1, 20),
    max_staleness=st.integers(0, 6),
    number=st.integers(1, 8),
    data=st.data(),
)
def test_a_resumed_run_samples_with_the_same_weights(
    steps: int, max_staleness: int, number: int, data: st.DataObject
) -> None:
    is_boundary = every(number, steps)
    whole = versions(steps, max_staleness, is_boundary)

    checkpoints = [step - step % number for step in range(steps)]
    assert whole == [max(t - max_staleness, checkpoints[t]) for t in range(steps)]
    start = data.draw(st.sampled_from(sorted(set(checkpoints))))
    assert versions(steps, max_staleness, is_boundary, start) == whole[start:]


class Counting(Idle):
    """Remembers how many rollouts it has played."""

    def __init__(self) -> None:
        self.played = 0

    def plan(self, step: int) -> Plan:
        return Plan(step=step, tasks=(), seed=0)

    async def play(self, plan: Plan, engine: object) -> Rollout:
        self.played += 1
        return Rollout(failures=(f"step {plan.step} after {self.played - 1}",))

    def state(self) -> Any:
        return self.played

    def load_state(self, state: Any) -> None:
        self.played = state


def test_state_is_that_after_all_rollouts_begun() -> None:
    stages = [
        Stage(
            name=name,
            algorithm=algorithm,
            steps=9,
            optimizer=OptimizerSettings(),
            temperature=1.0,
        )
        for name, algorithm in (("cold_start", Idle()), ("rl", Counting()))
    ]
    sampler = LocalSampler(stages, ScriptedEngine(lambda *_: ""))
    assert isinstance(sampler, Sampler)
    assert sampler.state(0) is None
    sampler.load_state(1, 4)
    queue = RolloutQueue(sampler, 1, 0, max_staleness=2, is_boundary=every(9, 9))

    assert drive(queue.take()).failures == ("step 0 after 4",)
    assert sampler.state(1) == 4 + 3  # two more are sampled ahead
    assert drive(queue.take()).failures == ("step 1 after 5",)
