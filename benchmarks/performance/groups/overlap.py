"""Rollout and update in two processes at the same time, against one after the other.

Both runs go from the demo's cold start through the demo's steps, in turns of a few steps each. A
turn of the overlapped run ends when the rollout that is under way has ended too, so that both have
sampled and learned equally much. Each run computes on one thread, and each of the two processes.
"""

from collections.abc import Iterator
from functools import partial

from benchmarks.performance.context import Context
from benchmarks.performance.groups.learning import learning_world
from benchmarks.performance.records import Measured, Row, attempt
from benchmarks.performance.timing import Sample, interleaved, spread, summary, timed

from steadyrl.engines.driver import drive
from steadyrl.policies.model_settings import Pretrained
from steadyrl.recipes import RECIPES
from steadyrl.run.assembly import Assembly
from steadyrl.run.config import RunConfig
from steadyrl.training.journal import JournalSettings
from steadyrl.training.loop import train_step
from steadyrl.training.rollout_queue import RolloutQueue

STEPS_IN_A_TURN = 10
TURNS = 9
"""After one that does not count: 100 of the demo's 150 steps."""

OFF_POLICY_TURNS = 3
MINI_BATCHES = 4


def rows(context: Context) -> Iterator[Row]:
    """The demo, and the demo with four times the rollout in four mini-batches."""
    what = "steps per second of two overlapped processes, the demo"
    config = _from_cold_start(context)
    turns = context.rounds(TURNS)
    yield attempt("overlap-two-processes", what, partial(_race, config, context, turns))
    settings = config.algorithm.model_copy(update={"mini_batches": MINI_BATCHES})
    off_policy = config.model_copy(update={"algorithm": settings})
    yield attempt(
        "overlap-two-processes-n4",
        f"{what}, {MINI_BATCHES} mini-batches",
        partial(_race, off_policy, context, context.rounds(OFF_POLICY_TURNS)),
    )


class Runner:
    """A run that goes on a turn at a time."""

    def __init__(self, config: RunConfig, context: Context, *, overlap: bool) -> None:
        self._context = context
        settings = config.engine.model_copy(update={"overlap": overlap})
        self._assembly = Assembly.of(config.model_copy(update={"engine": settings}))
        self._stage = stage = self._assembly.stages[-1]
        self._step = 0
        self._queue = RolloutQueue(
            self._assembly.sampler,
            len(self._assembly.stages) - 1,
            0,
            max_staleness=stage.max_staleness,
            is_boundary=lambda step: step == stage.steps,
        )
        self.rewards: list[float] = []
        learner, engine = self._assembly.learner, self._assembly.engine
        learner.begin_stage(self._stage.optimizer, self._stage.temperature, fresh=True)
        drive(engine.sync(learner.publish()))

    def __call__(self) -> Sample:
        """One turn."""
        return timed(self._turn, self._context.device)

    def close(self) -> None:
        """Ends the second process."""
        self._assembly.close()

    def _turn(self) -> int:
        steps = 1 if self._context.quick else STEPS_IN_A_TURN
        parts = self._assembly
        for _ in range(steps):
            rollout = drive(self._queue.take())
            step = train_step(self._stage, self._step, rollout, parts.learner, parts.engine)
            metrics, _ = drive(step)
            self.rewards.append(metrics["reward"])
            self._step += 1
        parts.sampler.state(len(parts.stages) - 1)  # known after the rollout under way
        return steps


def _from_cold_start(context: Context) -> RunConfig:
    changes = {
        "model": Pretrained(path=str(learning_world(context).checkpoint)),
        "cold_start": None,
        "steps": STEPS_IN_A_TURN * (TURNS + 1) + 1,
        "journal": JournalSettings(checkpoint_every=10**6),
    }
    return RECIPES["demo"]().model_copy(update=changes)


def _race(config: RunConfig, context: Context, turns: int) -> Measured:
    runners = {
        "overlapped": Runner(config, context, overlap=True),
        "one after the other": Runner(config, context, overlap=False),
    }
    try:
        samples = interleaved(runners, rounds=turns)
    finally:
        runners["overlapped"].close()
    pairs = zip(samples["one after the other"], samples["overlapped"], strict=True)
    rewards = {name: runner.rewards for name, runner in runners.items()}
    last = {name: sum(curve[-10:]) / len(curve[-10:]) for name, curve in rewards.items()}
    return Measured(
        value=spread([alone.seconds / together.seconds for alone, together in pairs]),
        unit="x steps/s",
        details={
            **{name: summary(of) for name, of in samples.items()},
            "rewards": {n: [round(r, 4) for r in curve] for n, curve in rewards.items()},
        },
        note=(
            f"reward of the last {min(10, len(rewards['overlapped']))} of "
            f"{len(rewards['overlapped'])} steps: {last['overlapped']:.3f} overlapped, "
            f"{last['one after the other']:.3f} one after the other"
        ),
    )
