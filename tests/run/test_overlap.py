"""Rollouts sampled ahead, in this process or a second one: with which weights, to the same end
after interruptions, and no longer than the run.
"""

import atexit
import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import pytest
import torch

from steadyrl.algorithms.reflection import FrozenReflection
from steadyrl.base.errors import UserError
from steadyrl.engines.canary import CanarySettings
from steadyrl.engines.driver import drive
from steadyrl.engines.local import LocalEngineSettings
from steadyrl.engines.protocol import Request, Sampling
from steadyrl.environments.custom import CustomSettings
from steadyrl.objectives import Truncation
from steadyrl.policies.model_settings import Pretrained
from steadyrl.policies.numerics import Numerics
from steadyrl.records.run_folder import RunFolder
from steadyrl.records.shared_weights import SharedWeights
from steadyrl.run.assembly import Assembly
from steadyrl.run.config import RunConfig
from steadyrl.run.execution import resume_run, start_run
from steadyrl.run.rollout_process import RolloutProcess
from steadyrl.training.checkpoint import latest_checkpoint, read_waiting
from steadyrl.training.continuous_sampler import ContinuousSampler
from steadyrl.training.journal import JournalSettings
from steadyrl.training.loop import train_step
from steadyrl.training.rollout_queue import RolloutQueue
from steadyrl.training.sampler import sample
from tests.learners.small import largest_difference, weights_of
from tests.progress import Heard
from tests.run.test_execution import StopAfter, timeless, weights
from tests.run.tiny import tiny_experiential_run, tiny_run

pytestmark = pytest.mark.slow

STEPS = 4
MEASURED_ELSEWHERE = ("seconds", "_per_second", "engine_update_reached_fraction")
"""Times, and what an engine in another process does not report."""


def engine(**changes: Any) -> LocalEngineSettings:
    return LocalEngineSettings(**{"numerics": Numerics.FP8, **changes})


OVERLAP = engine(overlap=True)


@cache
def cold_started() -> Path:
    """A checkpoint that earns rewards: without any, no run would change its weights."""
    folder = Path(mkdtemp(prefix="steadyrl-test-"))
    atexit.register(rmtree, folder)
    start_run(tiny_run(steps=0), folder / "run")
    checkpoint = latest_checkpoint(RunFolder(folder / "run"))
    assert checkpoint is not None
    return checkpoint


def one_stage(**changes: Any) -> RunConfig:
    values = {
        "model": Pretrained(path=str(cold_started())),
        "cold_start": None,
        "journal": JournalSettings(checkpoint_every=100),
        "steps": STEPS,
    }
    return tiny_run(**{**values, **changes})


def begin(assembly: Assembly) -> None:
    (stage,), learner = assembly.stages, assembly.learner
    learner.begin_stage(stage.optimizer, stage.temperature, fresh=True)
    drive(assembly.engine.sync(learner.publish()))


def one_after_the_other(assembly: Assembly, ahead: int) -> list[dict[str, Any]]:
    """Metrics of a run that samples `ahead` steps early, written without a queue."""
    (stage,), learner, engine = assembly.stages, assembly.learner, assembly.engine
    begin(assembly)
    rollouts, rows = [], []
    for step in range(STEPS):
        while len(rollouts) <= min(step + ahead, STEPS - 1):
            rollouts.append(drive(sample(stage.algorithm, len(rollouts), engine)))
        rows.append(drive(train_step(stage, step, rollouts[step], learner, engine))[0])
    return rows


def by_queue(assembly: Assembly) -> list[dict[str, Any]]:
    """Metrics of a run as its configuration says."""
    (stage,), learner = assembly.stages, assembly.learner
    begin(assembly)

    async def steps() -> list[dict[str, Any]]:
        queue = RolloutQueue(
            assembly.sampler,
            0,
            0,
            max_staleness=stage.max_staleness,
            is_boundary=lambda step: step == STEPS,
        )
        rows = []
        for step in range(STEPS):
            rollout = await queue.take()
            rows.append((await train_step(stage, step, rollout, learner, assembly.engine))[0])
        return rows

    return drive(steps())


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize(
    ("ahead", "staleness"),
    # Two updates per rollout: 0 and 1 old in the first step, then 2 more for each step ahead.
    [(1, [0.5, 2.5, 2.5, 2.5]), (2, [0.5, 2.5, 4.5, 4.5])],
)
def test_rollouts_are_those_of_the_weights_some_steps_before(
    ahead: int, staleness: list[float], overlap: bool
) -> None:
    plain = Assembly.of(one_stage())
    expected = one_after_the_other(plain, ahead)
    assembly = Assembly.of(one_stage(engine=engine(overlap=overlap, max_staleness=ahead)))
    measured = by_queue(assembly)
    assembly.close()

    for one, other in zip(measured, expected, strict=True):
        assert {k: v for k, v in one.items() if not k.endswith(MEASURED_ELSEWHERE)} == {
            k: v for k, v in other.items() if not k.endswith(MEASURED_ELSEWHERE)
        }
    assert all(row["gradient_norm"] > 0 for row in expected)
    assert [row["staleness"] for row in measured] == staleness
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


def experiential(settings: LocalEngineSettings, **algorithm: Any) -> RunConfig:
    """A run with a memory, and a checkpoint in its middle."""
    values = {"correction": Truncation(), **algorithm}
    return tiny_experiential_run(
        algorithm=tiny_experiential_run().algorithm.model_copy(update=values),
        engine=settings,
        journal=JournalSettings(checkpoint_every=3),
    )


@pytest.mark.parametrize("settings", [OVERLAP, engine(max_staleness=2)], ids=["two", "one"])
def test_an_interrupted_run_that_remembers_is_resumed_to_the_same_end(
    tmp_path: Path, settings: LocalEngineSettings
) -> None:
    config = experiential(settings)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    start_run(config, whole)
    with pytest.raises(KeyboardInterrupt):
        start_run(config, cut, [StopAfter("rl", 5)])
    resume_run(cut)

    assert timeless(cut) == timeless(whole)
    assert weights(cut) == weights(whole)


def test_a_reference_policy_reflects_in_the_other_process(tmp_path: Path) -> None:
    style = tiny_experiential_run().algorithm.reflection
    frozen = FrozenReflection(style=style.style, sampling=style.sampling)
    for name, settings in (("two", OVERLAP), ("one", engine(max_staleness=1))):
        start_run(experiential(settings, reflection=frozen), tmp_path / name)

    assert weights(tmp_path / "two") == weights(tmp_path / "one")
    rows = timeless(tmp_path / "two")
    assert any(row.get("reflection_fraction", 0) > 0 for row in rows)


def test_noise_is_left_out_of_evaluations_beside_the_other_process(tmp_path: Path) -> None:
    noise = {"routing_noise": 1.0, "weight_noise": 0.02}
    for name, changes in (("two", {"overlap": True}), ("one", {"max_staleness": 1})):
        start_run(one_stage(engine=engine(**noise, **changes)), tmp_path / name)

    two, one = (
        [
            {k: v for k, v in row.items() if not k.endswith(MEASURED_ELSEWHERE)}
            for row in timeless(tmp_path / name)
        ]
        for name in ("two", "one")
    )
    assert two == one
    assert any(row.get("gradient_norm", 0.0) > 0 for row in one)


def test_the_canary_proves_the_syncs_of_the_other_process(tmp_path: Path) -> None:
    config = one_stage(engine=OVERLAP, canary=CanarySettings(every=1))
    start_run(config, tmp_path / "run")
    rows = RunFolder(tmp_path / "run").read_metrics()
    assert [row["step"] for row in rows if "canary_difference" in row] == [1, 2, 3, 4]


def test_the_canary_finds_weights_that_never_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, writes = SharedWeights.write, []

    def write(self: SharedWeights, sent: Any) -> None:
        writes.append(None)
        if len(writes) == 1:
            real(self, sent)

    monkeypatch.setattr(SharedWeights, "write", write)
    exact = OVERLAP.model_copy(update={"numerics": Numerics.FLOAT32})
    config = one_stage(engine=exact, canary=CanarySettings(every=1))
    with pytest.raises(UserError, match=r"version \d+"):
        start_run(config, tmp_path / "run")


def test_the_other_process_finds_modules_where_this_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "from tests.run.test_execution import Failing\n"
    (tmp_path / "beside_the_script.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    options = {"tasks": [], "starts": []}
    environment = CustomSettings(name="beside_the_script:Failing", options=options)
    start_run(one_stage(engine=OVERLAP, environment=environment, steps=2), tmp_path / "run")
    assert timeless(tmp_path / "run")[-1]["step"] == 2


@pytest.fixture
def process() -> Iterator[RolloutProcess]:
    config = one_stage()
    process = RolloutProcess(config, weights_of(Assembly.of(config).learner))
    yield process
    process.close()


def test_exceptions_of_the_process_are_raised_in_this_one(process: RolloutProcess) -> None:
    nothing = Request(
        prompt_ids=torch.zeros(0, dtype=torch.long), num_completions=1, seed=0, sampling=Sampling()
    )
    with pytest.raises(UserError, match="A prompt has no tokens"):
        process.call("generate", [nothing])
    with pytest.raises(RuntimeError, match=r"(?s)The rollout process failed.*IndexError"):
        process.call("sample", 7, 0)
    assert process.call("capabilities").max_positions == 64


def test_after_weights_that_cannot_be_loaded_nothing_is_sampled(process: RolloutProcess) -> None:
    weights = weights_of(Assembly.of(one_stage()).learner)
    process.load("sync", "weights-0", weights, "no version", "one argument too many")
    with pytest.raises(RuntimeError, match=r"(?s)The rollout process failed.*TypeError"):
        process.call("sample", 0, 0)


def test_the_process_ends_with_the_run(process: RolloutProcess) -> None:
    process.call("capabilities")
    unanswered = process.ask("sample", 0, 0)
    process.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
    assert unanswered.done()


CONTINUOUS = engine(overlap=True, in_flight="continue", max_staleness=2)


def tasks_of(path: Path) -> list[set[str]]:
    """Tasks that each step learned from, according to the saved completions."""
    files = sorted((path / "completions").glob("rl-*.jsonl"))
    return [
        {json.loads(line)["task_id"] for line in file.read_text().splitlines()} for file in files
    ]


def test_a_continuous_run_learns_from_the_tasks_of_the_plan_within_the_bound(
    tmp_path: Path,
) -> None:
    for name, settings in (("plain", engine()), ("continuous", CONTINUOUS)):
        start_run(one_stage(engine=settings, steps=6), tmp_path / name)
    rows = [row for row in timeless(tmp_path / "continuous") if row["step"] > 0]

    assert tasks_of(tmp_path / "continuous") == tasks_of(tmp_path / "plain")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert max(row["staleness_oldest"] for row in rows) == 2 * 2  # two updates per rollout
    assert all(row["gradient_norm"] > 0 for row in rows)


def test_a_continuous_sampler_without_staleness_samples_the_plain_run_to_the_bit() -> None:
    plain, assembly = Assembly.of(one_stage()), Assembly.of(one_stage())
    one_after_the_other(plain, 0)
    (stage,), learner = assembly.stages, assembly.learner
    sampler = ContinuousSampler(assembly.stages, assembly.engine, max_staleness=0)
    begin(assembly)

    async def steps() -> list[float]:
        ages = []
        for step in range(STEPS):
            rollout = await (await sampler.begin(0, step))()
            metrics, _ = await train_step(stage, step, rollout, learner, assembly.engine)
            await sampler.publish()
            ages.append(metrics["staleness_oldest"])
        return ages

    assert drive(steps()) == [0.0] * STEPS
    assert largest_difference(weights_of(plain.learner), weights_of(learner)) == 0


def test_a_continuous_run_that_is_interrupted_goes_on_with_what_was_waiting(tmp_path: Path) -> None:
    config = one_stage(
        engine=CONTINUOUS, steps=6, journal=JournalSettings(checkpoint_every=2), evaluate_every=100
    )
    with pytest.raises(KeyboardInterrupt):
        start_run(config, tmp_path / "run", [StopAfter("rl", 3)])
    checkpoint = latest_checkpoint(RunFolder(tmp_path / "run"))
    assert checkpoint is not None
    waiting = read_waiting(checkpoint)
    assert waiting is not None
    assert waiting.schedule["cursor"] > 2 * 8  # tasks in flight or waiting beyond step 2
    resume_run(tmp_path / "run")

    start_run(one_stage(steps=6), tmp_path / "plain")
    assert tasks_of(tmp_path / "run") == tasks_of(tmp_path / "plain")


def test_experiential_steps_are_played_in_order_in_a_continuous_run(tmp_path: Path) -> None:
    start_run(experiential(CONTINUOUS), tmp_path / "run")
    rows = [row for row in timeless(tmp_path / "run") if row["stage"] == "rl" and row["step"] > 0]

    assert max(row["staleness_oldest"] for row in rows) > 0
    assert sum(row["memory_writes"] for row in rows) > 0
