"""Rollouts sampled ahead: with which weights, to the same end after interruptions, and no longer
than the run.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from steadyrl.algorithms.protocol import Experience, MiniBatch
from steadyrl.base.errors import UserError
from steadyrl.engines.driver import drive
from steadyrl.engines.local import LocalEngineSettings
from steadyrl.engines.protocol import Engine, Request, Sampling
from steadyrl.learners.loss_term import LossTerm
from steadyrl.objectives import Truncation
from steadyrl.policies.numerics import Numerics
from steadyrl.run.assembly import Assembly
from steadyrl.run.config import RunConfig
from steadyrl.run.execution import resume_run, start_run
from steadyrl.run.overlap import overlapped
from steadyrl.run.rollout_process import RolloutProcess
from steadyrl.training.journal import JournalSettings
from steadyrl.training.loop import train_step
from tests.learners.small import largest_difference, weights_of
from tests.progress import Heard
from tests.run.test_execution import StopAfter, timeless, weights
from tests.run.tiny import tiny_experiential_run, tiny_run

pytestmark = pytest.mark.slow

OVERLAP = LocalEngineSettings(numerics=Numerics.FP8, overlap=True)


class CollectsEarly:
    """What overlap stands for, one thing after the other: the next rollout is sampled before the
    update on this one.
    """

    samples_from_engine = True

    def __init__(self, assembly: Assembly, steps: int) -> None:
        self._algorithm = assembly.stages[-1].algorithm
        self._steps = steps
        self._next: Experience | None = None

    async def collect(self, step: int, engine: Engine) -> Experience:
        experience = self._next or await self._algorithm.collect(step, engine)
        if step + 1 < self._steps:
            self._next = await self._algorithm.collect(step + 1, engine)
        return experience

    def loss_terms(self, mini_batch: MiniBatch) -> tuple[LossTerm, ...]:
        return self._algorithm.loss_terms(mini_batch)


def steps_of(assembly: Assembly, algorithm: Any, steps: int) -> list[dict[str, Any]]:
    """The metrics of `steps` steps."""
    stage, learner, engine = assembly.stages[-1], assembly.learner, assembly.engine
    object.__setattr__(stage, "algorithm", algorithm)
    learner.begin_stage(stage.optimizer, stage.temperature, fresh=True)
    drive(engine.sync(learner.publish()))
    return [drive(train_step(stage, step, learner, engine))[0] for step in range(steps)]


def one_stage(**changes: Any) -> RunConfig:
    journal = JournalSettings(checkpoint_every=100)
    return tiny_run(**{"cold_start": None, "journal": journal, "steps": 4, **changes})


def test_rollouts_are_those_of_the_weights_before_the_last_update() -> None:
    plain = Assembly.of(one_stage())
    expected = steps_of(plain, CollectsEarly(plain, 4), 4)
    assembly, process = overlapped(one_stage(engine=OVERLAP))
    measured = steps_of(assembly, assembly.stages[-1].algorithm, 4)
    process.close()

    # An engine in another process does not tell what reached it.
    timed = ("seconds", "_per_second", "staleness", "engine_update_reached_fraction")
    for one, other in zip(measured, expected, strict=True):
        assert {k: v for k, v in one.items() if not k.endswith(timed)} == {
            k: v for k, v in other.items() if not k.endswith(timed)
        }
    # Two updates per rollout: 0 and 1 old in the first step, 2 and 3 old in every later one.
    assert [row["staleness"] for row in measured] == [0.5, 2.5, 2.5, 2.5]
    assert largest_difference(weights_of(plain.learner), weights_of(assembly.learner)) == 0


def test_progress_of_the_other_process_is_heard_in_this_one(tmp_path: Path) -> None:
    heard = Heard()
    start_run(one_stage(engine=OVERLAP), tmp_path / "run", [], heard)

    assert heard.of("answers")[-1] == (8, 8)  # the last evaluation: 4 tasks, 2 samples
    assert (32, 32) in heard.of("episodes")
    assert [phase for phase, *_ in heard.phases][:5] == [
        "loading the model",
        "preparing the tasks",
        "preparing the engine",
        "reading the data for their digests",
        "evaluation",
    ]
    assert ("rollout", "rl", 4, 4) in heard.phases


def test_an_interrupted_run_that_remembers_is_resumed_to_the_same_end(tmp_path: Path) -> None:
    erl = tiny_experiential_run().algorithm
    assert erl is not None
    config = tiny_experiential_run(
        algorithm=erl.model_copy(update={"correction": Truncation()}),
        engine=OVERLAP,
        journal=JournalSettings(checkpoint_every=3),
    )
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    start_run(config, whole)
    with pytest.raises(KeyboardInterrupt):
        start_run(config, cut, [StopAfter("rl", 5)])
    resume_run(cut)

    assert timeless(cut) == timeless(whole)
    assert weights(cut) == weights(whole)


@pytest.fixture
def process() -> Iterator[RolloutProcess]:
    config = one_stage()
    process = RolloutProcess(config, weights_of(Assembly.of(config).learner))
    yield process
    process.close()


def test_what_fails_in_the_process_is_said_in_this_one(process: RolloutProcess) -> None:
    nothing = Request(
        prompt_ids=torch.zeros(0, dtype=torch.long), num_completions=1, seed=0, sampling=Sampling()
    )
    with pytest.raises(UserError, match="A prompt has no tokens"):
        process.ask("generate", [nothing]).result()
    with pytest.raises(RuntimeError, match=r"(?s)The rollout process failed.*IndexError"):
        process.ask("collect", 7, 0).result()
    assert process.ask("capabilities").result().max_positions == 64


def test_a_process_that_was_killed_is_reported(process: RolloutProcess) -> None:
    process.ask("capabilities").result()
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(UserError, match=r"ended \(exit status -9\).*overlap to false"):
        process.ask("capabilities").result()
    with pytest.raises(UserError, match="ended"):
        process.ask("capabilities").result()


def test_the_process_ends_with_the_run(process: RolloutProcess) -> None:
    process.ask("capabilities").result()
    process.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
