"""The queue of rollouts: how far sampling may be ahead of the updates.

With `max_staleness` k, the rollout of step t is sampled with the weights after step t - k, or after
the last checkpoint if that is later:

    k = 0    sample 0 | update 0 | sample 1 | update 1 | ...          on-policy
    k = 1    sample 0, sample 1 | update 0 | sample 2 | update 1 | ...

A second process samples beside the updates, which needs k >= 1. Which weights sample a rollout, and
so every bit of the run, depends on k alone and not on where it is sampled. Nothing is dropped:
sampling waits when it is k steps ahead.

At a checkpoint the queue is empty: a resumed run samples the next rollouts with the weights of the
checkpoint, as an undisturbed run does. So a checkpoint holds no rollouts.
"""

from collections import deque
from collections.abc import Callable

from steadyrl.algorithms.protocol import Rollout
from steadyrl.training.sampler import PendingRollout, Sampler


class RolloutQueue:
    """The rollouts of a stage, sampled at most `max_staleness` steps ahead.

    Args:
        stage: Number of the stage.
        step: First step whose rollout is taken.
        is_boundary: Whether the queue must be empty after this many steps: at checkpoints, and at
            the end of the stage.
    """

    def __init__(
        self,
        sampler: Sampler,
        stage: int,
        step: int,
        *,
        max_staleness: int,
        is_boundary: Callable[[int], bool],
    ) -> None:
        self._sampler = sampler
        self._stage = stage
        self._next = step
        self._max_staleness = max_staleness
        self._is_boundary = is_boundary
        self._pending: deque[PendingRollout] = deque()

    async def take(self) -> Rollout:
        """The rollout of the next step, after beginning those that may now be sampled ahead."""
        step = self._next - len(self._pending)
        if not self._pending:
            await self._begin()
        rollout = await self._pending.popleft()()
        while self._next <= step + self._max_staleness and not self._is_boundary(self._next):
            await self._begin()
        return rollout

    async def _begin(self) -> None:
        self._pending.append(await self._sampler.begin(self._stage, self._next))
        self._next += 1
