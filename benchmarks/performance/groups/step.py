"""A whole RL step, rollout to new weights in the engine: ours against TRL's GRPOTrainer."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.performance.context import Context
from benchmarks.performance.groups.update import policy_gradient
from benchmarks.performance.records import Measured, Row, Spread, attempt
from benchmarks.performance.timing import Sample, rate_ratio, summary, time_ratio, timed
from benchmarks.performance.workloads import small_and_large
from benchmarks.performance.worlds import World

from steadyrl.engines.driver import drive
from steadyrl.learners.local import LocalLearner, LocalLearnerSettings
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.records.routing import RoutingReplay
from steadyrl.training.loop import train_step
from steadyrl.training.sampler import sample
from steadyrl.training.stage import Stage

ROUNDS = {"W1": 9, "W2": 1}
PROMPTS = {"W1": 32, "W2": 4}
"""A whole W2 takes TRL ten minutes, so it is cut to a quarter of its prompts."""

WARMUPS = {"W1": 1, "W2": 0, "W5": 0}

SWEEPS = {
    "W1": ((256, False), (64, False), (256, True)),
    "W2": ((16, True), (64, True)),
    "W5": ((8, False), (32, False), (32, True)),
}
"""Sequences in TRL's micro-batch, and whether it writes by continuous batching: one step of each,
and the fastest is measured. `generate` is the slower one on W2, as the rows of rollout show, though
not on the short answers of the sweep."""

SWEPT_TOKENS = 64
"""Budget of an answer in the sweep."""

SWEPT_PROMPTS = {"W5": 4}
"""Prompts in the sweep, where not all of them: a whole step of W5 takes TRL minutes."""


def rows(context: Context) -> Iterator[Row]:
    """W1 and W2."""
    for world in small_and_large(context):
        rounds = context.rounds(ROUNDS[world.name])
        world = replace(world, prompts=min(world.prompts, PROMPTS[world.name]))
        yield attempt(
            f"step-{world.name.lower()}-trl",
            f"whole RL step, {world.name}, against TRL",
            partial(against_trl, world, rounds, context.work / "trl"),
        )


class OurStep:
    """Steps of the loop as it ships: routes recorded, metrics of every token."""

    def __init__(self, world: World, optimizer: OptimizerSettings, *, steps: int) -> None:
        policy = world.policy()
        self._device = world.device
        self._engine = world.engine(policy, record_routing=policy.hook is not None)
        settings = LocalLearnerSettings(
            dtype=str(world.dtype).removeprefix("torch."),
            micro_batch_tokens=world.micro_batch_tokens,
        )
        self.learner = LocalLearner(policy, settings, replay=RoutingReplay.NONE)
        self.learner.begin_stage(optimizer, world.sampling.temperature, fresh=True)
        self._stage = Stage(
            name="rl",
            algorithm=policy_gradient(world),
            steps=steps,
            optimizer=optimizer,
            temperature=world.sampling.temperature,
        )
        self._step = 0
        self.metrics: dict[str, Any] = {}
        """Of the last step."""

    def __call__(self) -> Sample:
        """The next step, timed. Its tokens are those of the responses."""

        def work() -> int:
            stage, step, engine = self._stage, self._step, self._engine
            rollout = drive(sample(stage.algorithm, step, engine))
            self.metrics, _ = drive(train_step(stage, step, rollout, self.learner, engine))
            answers = (t.completions for group in rollout.groups for t in group.trajectories)
            return sum(len(answer.token_ids) for each in answers for answer in each)

        taken = timed(work, self._device)
        self._step += 1
        return taken


def against_trl(world: World, rounds: int, folder: Path) -> Measured:
    """TRL's trainer runs, and after each of its steps ours takes one.

    Steps are compared by their time, those of W5 by their time for each response token.
    """
    from benchmarks.performance.peers.trl_grpo import (
        Choice,
        InTurn,
        TokenCount,
        fastest,
        trainer_for,
    )

    optimizer = OptimizerSettings(learning_rate=world.learning_rate)
    short = replace(
        world,
        prompts=min(SWEPT_PROMPTS.get(world.name, world.prompts), world.prompts),
        max_new_tokens=min(SWEPT_TOKENS, world.max_new_tokens),
    )
    sequences = short.prompts * short.group_size
    sizes = {(min(size, sequences), way) for size, way in SWEEPS[world.name]}
    choices = [Choice(micro_batch=size, continuous=way) for size, way in sorted(sizes)]
    best, sweep = fastest(short, choices, optimizer=optimizer, folder=folder)
    warmups = WARMUPS[world.name]
    steps = warmups + rounds
    our_step, ours = OurStep(world, optimizer, steps=steps), []

    def between(_step: int, _model: object) -> bool:
        ours.append(our_step())
        return False

    count = TokenCount()
    turns = InTurn(between, count)
    trainer_for(
        world,
        best,
        steps=steps,
        optimizer=optimizer,
        callbacks=[turns],
        folder=folder,
        count=count,
    ).train()
    ours, trl = ours[warmups:], turns.samples[warmups:]
    shown = ("rollout_tokens_per_second", "update_tokens_per_second", "no_signal_fraction")
    return Measured(
        value=_gain(world, ours, trl, clock="seconds"),
        unit="x as fast as TRL",
        details={
            "ours": summary(ours) | {name: our_step.metrics[name] for name in shown},
            "peer": summary(trl),
            "by_processor_time": _gain(world, ours, trl, clock="processor_seconds").median,
            "peer_sweep_seconds": sweep,
        },
        note=f"TRL's fastest of a sweep: {best}",
    )


def _gain(world: World, ours: Sequence[Sample], trl: Sequence[Sample], *, clock: str) -> Spread:
    """TRL's time over ours, by step or by response token."""
    if world.name == "W5":
        return rate_ratio(ours, trl, clock=clock)
    return time_ratio(trl, ours, clock=clock)
