"""Rollout and update at the same time: the rollouts of a run, sampled one step ahead."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from steadyrl.algorithms.protocol import Algorithm, Experience, MiniBatch, SupportsState
from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.engines.protocol import Engine
from steadyrl.learners.loss_term import LossTerm
from steadyrl.policies.merged_weights import MergedWeights
from steadyrl.run.assembly import Assembly
from steadyrl.run.config import RunConfig
from steadyrl.run.remote_engine import RemoteEngine
from steadyrl.run.rollout_process import Reply, RolloutProcess
from steadyrl.training.stage import Stage


class CollectsAhead:
    """An algorithm whose rollouts another process samples while the policy learns.

    A rollout is sampled with the weights before the update on the one before it: one rollout of
    staleness, never more. Where the run may be taken up again, none is under way, so that a run
    that was interrupted goes on as if it had not been.

    Args:
        number: Of the algorithm's stage.
        pauses: Whether nothing is to be under way once this many steps are done.
    """

    samples_from_engine = True

    def __init__(
        self,
        algorithm: Algorithm,
        number: int,
        process: RolloutProcess,
        *,
        pauses: Callable[[int], bool],
    ) -> None:
        self._algorithm = algorithm
        self._number = number
        self._process = process
        self._pauses = pauses
        self._under_way: Reply | None = None

    async def collect(self, step: int, engine: Engine) -> Experience:
        """The experience of step `step`. The next one's is under way when it returns."""
        reply = self._under_way or self._process.ask("collect", self._number, step)
        experience: Experience = reply.result()
        ahead = not self._pauses(step + 1)
        self._under_way = self._process.ask("collect", self._number, step + 1) if ahead else None
        return experience

    def loss_terms(self, mini_batch: MiniBatch) -> tuple[LossTerm, ...]:
        """The terms whose sum one optimizer step minimizes."""
        return self._algorithm.loss_terms(mini_batch)


class RemembersAhead(CollectsAhead):
    """The same for an algorithm that remembers something from step to step."""

    def state(self) -> Any:
        """What it remembers, as values that JSON can hold."""
        return self._process.ask("state", self._number).result()

    def load_state(self, state: Any) -> None:
        """Remembers what `state()` gave, and nothing else."""
        self._process.ask("load_state", self._number, state).result()


def overlapped(
    config: RunConfig, progress: Progress = NO_PROGRESS
) -> tuple[Assembly, RolloutProcess]:
    """The parts of a run whose rollouts and updates overlap, and the process to close at its end.

    Raises:
        UserError: parts do not fit together, or are not there.
    """
    made: list[RolloutProcess] = []

    def make(config: RunConfig, policy: Any) -> Engine:
        made.append(RolloutProcess(config, MergedWeights(policy.model), progress))
        return RemoteEngine(made[0])

    assembly = Assembly.of(config, engine_maker=make, progress=progress)
    (process,) = made

    def ahead(number: int, stage: Stage) -> Stage:
        if not stage.algorithm.samples_from_engine:
            return stage
        kind = RemembersAhead if isinstance(stage.algorithm, SupportsState) else CollectsAhead

        def pauses(done: int) -> bool:
            return config.journal.keeps(done, stage.steps)

        return replace(stage, algorithm=kind(stage.algorithm, number, process, pauses=pauses))

    stages = [ahead(number, stage) for number, stage in enumerate(assembly.stages)]
    return replace(assembly, stages=stages), process
