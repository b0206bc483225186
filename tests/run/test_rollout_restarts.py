"""A rollout process that is killed: it is started anew, and the run is the same to the bit."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steadyrl.algorithms.reflection import FrozenReflection
from steadyrl.base.errors import UserError
from steadyrl.engines.local import LocalEngineSettings
from steadyrl.environments.arithmetic import Arithmetic, ArithmeticSettings
from steadyrl.environments.custom import CustomSettings
from steadyrl.environments.protocol import Episode, Outcome, Task
from steadyrl.policies.model_settings import Pretrained
from steadyrl.records.run_folder import RunFolder
from steadyrl.run.assembly import Assembly
from steadyrl.run.config import RunConfig
from steadyrl.run.execution import start_run
from steadyrl.run.placement.settings import EmbeddedPlacement
from steadyrl.run.restarts import Restarts
from steadyrl.run.rollout_process import RolloutEndedError, RolloutProcess
from steadyrl.training.checkpoint import latest_checkpoint
from steadyrl.training.journal import JournalSettings
from tests.learners.small import weights_of
from tests.run.test_execution import timeless, weights
from tests.run.test_overlap import CONTINUOUS, OVERLAP, experiential, one_stage, tasks_of
from tests.run.tiny import tiny_experiential_run

PER_ROLLOUT = 32
"""Responses of a rollout of `one_stage`: 8 tasks, 4 each."""

ENDED = "The rollout process ended (exit status -9)"

killed = pytest.mark.filterwarnings("ignore:The rollout process ended:RuntimeWarning")


class Mortal(Arithmetic):
    """Kills the rollout process that judges its answers, in the middle of a rollout.

    Args:
        driver: Id of the process that is not killed.
        folder: Has a file for each death.
        deaths: Number of deaths.
        after: Responses in a process before it is killed.
    """

    def __init__(self, driver: int, folder: str, deaths: int, after: int) -> None:
        super().__init__(ArithmeticSettings(operands=2, max_operand=4, max_result=5))
        self._driver, self._folder, self._deaths, self._left = driver, Path(folder), deaths, after

    def start(self, task: Task) -> Episode:
        return _MortalEpisode(self, super().start(task))

    def live(self) -> None:
        """Dies if it is time."""
        self._left -= 1
        died = len(list(self._folder.iterdir()))
        if os.getpid() != self._driver and self._left < 0 and died < self._deaths:
            (self._folder / str(died)).touch()
            os.kill(os.getpid(), signal.SIGKILL)


class _MortalEpisode:
    def __init__(self, world: Mortal, episode: Episode) -> None:
        self._world, self._episode = world, episode

    def respond(self, text: str) -> Outcome:
        self._world.live()
        outcome = self._episode.respond(text)
        assert isinstance(outcome, Outcome)
        return outcome


def mortal(folder: Path, *, deaths: int, after: int = PER_ROLLOUT) -> CustomSettings:
    """The environment of runs in `folder`."""
    marks = folder / f"deaths-{deaths}-{after}"
    marks.mkdir(parents=True)
    options = {"driver": os.getpid(), "folder": str(marks), "deaths": deaths, "after": after}
    return CustomSettings(name=f"{__name__}:Mortal", options=options)


def without_restarts(path: Path) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if name != "engine_restarts"}
        for row in timeless(path)
    ]


def restarts_by_step(path: Path) -> dict[int, int]:
    rows = RunFolder(path).read_metrics()
    return {row["step"]: row["engine_restarts"] for row in rows if "engine_restarts" in row}


@killed
@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "deaths", "after"),
    [
        pytest.param(OVERLAP, 1, 2 * PER_ROLLOUT + 10, id="while newer weights wait"),
        pytest.param(OVERLAP, 2, PER_ROLLOUT + 8, id="twice"),
        pytest.param(
            OVERLAP.model_copy(update={"max_staleness": 2}), 1, 2 * PER_ROLLOUT + 10, id="two ahead"
        ),
    ],
)
def test_a_run_whose_rollout_process_is_killed_is_the_same_run(
    tmp_path: Path, settings: LocalEngineSettings, deaths: int, after: int
) -> None:
    def config(deaths: int) -> RunConfig:
        world = mortal(tmp_path, deaths=deaths, after=after)
        journal = JournalSettings(checkpoint_every=6)
        return one_stage(engine=settings, environment=world, steps=6, journal=journal)

    start_run(config(0), tmp_path / "whole")
    start_run(config(deaths), tmp_path / "killed")

    assert without_restarts(tmp_path / "killed") == timeless(tmp_path / "whole")
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    assert sum(restarts_by_step(tmp_path / "killed").values()) == deaths
    notes = [note["note"] for note in RunFolder(tmp_path / "killed").read_notes()]
    assert sum(note.startswith(f"{ENDED}. It is started anew") for note in notes) == deaths
    assert any(row.get("gradient_norm", 0.0) > 0 for row in timeless(tmp_path / "whole"))


@killed
@pytest.mark.slow
def test_a_new_process_has_the_memory_and_the_reference_policy_of_the_one_before(
    tmp_path: Path,
) -> None:
    start_run(tiny_experiential_run(steps=0), tmp_path / "cold_started")
    checkpoint = latest_checkpoint(RunFolder(tmp_path / "cold_started"))
    values = {"model": Pretrained(path=str(checkpoint)), "cold_start": None}
    style = tiny_experiential_run().algorithm.reflection
    frozen = FrozenReflection(style=style.style, sampling=style.sampling)
    for name, deaths in (("whole", 0), ("killed", 1)):
        world = mortal(tmp_path, deaths=deaths, after=100)
        config = experiential(OVERLAP, reflection=frozen)
        start_run(config.model_copy(update={**values, "environment": world}), tmp_path / name)

    assert without_restarts(tmp_path / "killed") == timeless(tmp_path / "whole")
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    assert sum(restarts_by_step(tmp_path / "killed").values()) == 1
    assert any(row.get("memory_writes", 0) > 0 for row in timeless(tmp_path / "whole"))


@killed
@pytest.mark.slow
@pytest.mark.parametrize("after", [PER_ROLLOUT // 3, 4 * PER_ROLLOUT])
def test_a_continuous_run_whose_rollout_process_is_killed_learns_from_each_task_once(
    tmp_path: Path, after: int
) -> None:
    world = mortal(tmp_path, deaths=1, after=after)
    start_run(one_stage(engine=CONTINUOUS, environment=world, steps=6), tmp_path / "run")
    start_run(one_stage(steps=6), tmp_path / "plain")

    assert tasks_of(tmp_path / "run") == tasks_of(tmp_path / "plain")
    rows = [row for row in RunFolder(tmp_path / "run").read_metrics() if row["step"] > 0]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert max(row["staleness_oldest"] for row in rows) <= 2 * 2  # two updates per rollout
    assert sum(restarts_by_step(tmp_path / "run").values()) == 1


@killed
@pytest.mark.slow
def test_a_process_that_ends_again_and_again_ends_the_run_with_the_remedy(tmp_path: Path) -> None:
    world = mortal(tmp_path, deaths=100, after=5)
    config = one_stage(engine=OVERLAP, environment=world, placement=EmbeddedPlacement(restarts=2))
    remedy = r"anew 2 times .* as placement\.restarts allows.* lower engine\.max_running"
    with pytest.raises(UserError, match=rf"ended \(exit status -9\)\. It was started {remedy}"):
        start_run(config, tmp_path / "run")
    assert len(list(Path(world.options["folder"]).iterdir())) == 3


@pytest.fixture
def process() -> Iterator[RolloutProcess]:
    config = one_stage()
    process = RolloutProcess(config, weights_of(Assembly.of(config).learner))
    yield process
    process.close()


@killed
@pytest.mark.slow
def test_questions_that_wait_are_answered_by_the_new_process(process: RolloutProcess) -> None:
    weights = weights_of(Assembly.of(one_stage()).learner)
    process.sync(weights, 3)
    whole = process.call("sample", 0, 1)
    first = process.pid
    asked = [process.ask("sample", 0, 1), process.ask("capabilities")]
    os.kill(first, signal.SIGKILL)

    again, capabilities = (process.wait(answer) for answer in asked)
    assert process.pid != first
    assert again.policy_version == 3
    responses = [
        [t.completions[0].token_ids.tolist() for g in rollout.groups for t in g.trajectories]
        for rollout in (whole, again)
    ]
    assert responses[0] == responses[1]
    assert capabilities.max_positions == 64
    assert len(process.restarts.take()) == 1
    assert process.restarts.take() == []


@pytest.mark.slow
def test_a_process_that_ends_before_it_has_begun_is_not_started_anew() -> None:
    config = one_stage()
    process = RolloutProcess(config, weights_of(Assembly.of(config).learner))
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(RolloutEndedError, match=r"ended \(exit status -9\)\. It may have run out"):
        process.call("capabilities")
    process.close()


@pytest.mark.filterwarnings("ignore:It ended:RuntimeWarning")
def test_restarts_are_counted_between_two_syncs() -> None:
    restarts = Restarts(2, "Do less.")
    ended = UserError("It ended.")
    for _ in range(2):
        restarts.begin_sync()
        restarts.record(ended, "It is started anew.")
        restarts.record(ended, "It is started anew.")
    with pytest.raises(UserError, match=r"^It ended\. It was started anew 2 times .* Do less\.$"):
        restarts.record(ended, "It is started anew.")
    assert restarts.take() == ["It ended. It is started anew."] * 4
    with pytest.warns(RuntimeWarning, match=r"^It ended\. It is started anew\.$"):
        Restarts(1, "").record(ended, "It is started anew.")
