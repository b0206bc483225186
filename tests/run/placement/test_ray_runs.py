"""Runs on a Ray cluster: those of one process, whatever dies."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from steadyrl.base.concurrency import concurrently
from steadyrl.base.progress import NO_PROGRESS
from steadyrl.engines.driver import drive, generate_all
from steadyrl.engines.local import LocalEngineSettings
from steadyrl.engines.protocol import Request, Sampling
from steadyrl.learners.fsdp.ranks import RankGroup
from steadyrl.learners.fsdp.settings import FsdpLearnerSettings
from steadyrl.policies.numerics import Numerics
from steadyrl.records.completion import Completion
from steadyrl.records.run_folder import RunFolder
from steadyrl.records.weight_source import StateDictWeights
from steadyrl.run.components import Components, make_engine
from steadyrl.run.config import RunConfig
from steadyrl.run.execution import start_run
from steadyrl.run.placement.settings import RayPlacement
from steadyrl.training.stage import Stage
from tests.learners.fsdp.groups import flat
from tests.run.metric_rows import assert_rows_close
from tests.run.test_overlap import tasks_of
from tests.run.tiny import tiny_run

pytestmark = [pytest.mark.scale, pytest.mark.timeout(600)]


def small_run(**changes: Any) -> RunConfig:
    engine = LocalEngineSettings(numerics=Numerics.FLOAT32)
    return tiny_run(**{"engine": engine, "steps": 5, **changes})


def metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of a run without times, and without a measure of what is rounding here."""
    no_measure = ("second", "temperature_share", "surprisal_gap_z")
    return [
        flat({name: v for name, v in row.items() if not any(part in name for part in no_measure)})
        for row in RunFolder(path).read_metrics()
    ]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Metrics of the run in one process."""
    path = tmp_path_factory.mktemp("runs") / "embedded"
    start_run(small_run(), path)
    return metrics(path)


def assert_the_same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(found) == len(expected) == 12
    for ours, theirs in zip(found, expected, strict=True):
        assert_rows_close(ours, theirs)


def test_a_run_on_two_engines_is_that_of_one_process(
    tmp_path: Path, on_ray: RayPlacement, embedded: list[dict[str, Any]]
) -> None:
    start_run(small_run(placement=on_ray), tmp_path / "run")
    assert_the_same(metrics(tmp_path / "run"), embedded)


class KillOnce:
    """A tracker that kills a process after a step."""

    def __init__(self, stage: str, step: int) -> None:
        self.place, self.groups = (stage, step), list[RankGroup]()

    def log(self, stage: Stage, step: int, metrics: Any) -> None:
        if (stage.name, step) == self.place and len(self.groups) == 1:
            os.kill(self.groups[0].processes[1].pid, signal.SIGKILL)

    def note(self, stage: Stage, step: int, text: str) -> None:
        pass

    def close(self) -> None:
        pass


def test_a_run_whose_rank_dies_resumes_from_its_checkpoint(
    tmp_path: Path,
    on_ray: RayPlacement,
    embedded: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    killer = KillOnce("rl", 3)

    class Known(RankGroup):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            killer.groups.append(self)

    monkeypatch.setattr("steadyrl.learners.fsdp.learner.RankGroup", Known)
    one_engine = on_ray.model_copy(update={"engines": 1})
    config = small_run(placement=one_engine, learner=FsdpLearnerSettings(ranks=2))
    start_run(config, tmp_path / "run", [killer])
    assert len(killer.groups) == 2
    assert_the_same(metrics(tmp_path / "run"), embedded)
    notes = [note["note"] for note in RunFolder(tmp_path / "run").read_notes()]
    lost = "Rank 1 of the learner ended (its process died). The run resumes from checkpoint rl-000"
    assert any(note.startswith(lost) for note in notes)


class KillEngineOnce(KillOnce):
    """A tracker that kills an engine after a step."""

    def __init__(self, stage: str, step: int) -> None:
        super().__init__(stage, step)
        self.engines: list[Any] = []

    def log(self, stage: Stage, step: int, metrics: Any) -> None:
        if (stage.name, step) == self.place:
            os.kill(self.engines[1].process.pid, signal.SIGKILL)


def test_an_asynchronous_run_whose_engine_dies_learns_from_each_task_once(
    tmp_path: Path, on_ray: RayPlacement, monkeypatch: pytest.MonkeyPatch
) -> None:
    from steadyrl.run.placement.ray_engine import PlacedEngine

    killer = KillEngineOnce("rl", 2)

    class Known(PlacedEngine):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            killer.engines.append(self)

    monkeypatch.setattr("steadyrl.run.placement.on_ray.PlacedEngine", Known)
    engine = LocalEngineSettings(
        numerics=Numerics.FLOAT32, overlap=True, in_flight="continue", max_staleness=2
    )
    with pytest.warns(RuntimeWarning, match=r"Engine 1 ended \(its process died\)\. It is started"):
        start_run(small_run(engine=engine, placement=on_ray), tmp_path / "run", [killer])
    start_run(small_run(), tmp_path / "plain")

    assert tasks_of(tmp_path / "run") == tasks_of(tmp_path / "plain")
    rows = [row for row in metrics(tmp_path / "run") if row["stage"] == "rl" and row["step"] > 0]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    assert 0 < max(row["staleness_oldest"] for row in rows) <= 2 * 2  # two updates per rollout
    assert sum(row.get("engine_restarts", 0) for row in rows) == 1
    notes = [note["note"] for note in RunFolder(tmp_path / "run").read_notes()]
    assert any(
        note.startswith("Engine 1 ended (its process died). It is started") for note in notes
    )


def requests() -> Iterator[Request]:
    for seed in range(12):
        prompt, sampling = torch.tensor([5, 6, 7, seed]), Sampling(max_new_tokens=48)
        yield Request(prompt_ids=prompt, num_completions=2, seed=seed, sampling=sampling)


def tokens_of(answers: list[list[Completion]]) -> list[list[list[int]]]:
    return [[completion.token_ids.tolist() for completion in group] for group in answers]


def test_an_engine_that_dies_is_started_anew_and_answers_the_rest(on_ray: RayPlacement) -> None:
    config = small_run(placement=on_ray)
    policy = Components.load(config).policy
    moved = {name: weight * 1.25 for name, weight in policy.model.state_dict().items()}
    weights = StateDictWeights(state=moved, version=3)
    alone = make_engine(config, policy)
    drive(alone.sync(weights))
    expected = generate_all(alone, requests())

    placement = config.placement.open(config, NO_PROGRESS)
    engine = placement.engine(policy, NO_PROGRESS)
    drive(engine.sync(weights))
    first, second = engine.engines
    pids = [first.process.pid, second.process.pid]

    async def answers() -> list[Any]:
        os.kill(pids[1], signal.SIGKILL)  # half of the requests meet it
        return await concurrently(map(engine.generate, requests()))

    with pytest.warns(RuntimeWarning, match=r"Engine 1 ended \(its process died\)\. It is started"):
        found = drive(answers())
    assert tokens_of(found) == tokens_of(expected)
    assert {c.policy_version for group in found for c in group} == {3}
    assert (first.open, second.open) == (0, 0)
    assert first.process.pid == pids[0] != second.process.pid
    for scores in (drive(engine.score([torch.arange(9)])) for _ in range(2)):  # one of each engine
        torch.testing.assert_close(scores, drive(alone.score([torch.arange(9)])))
    ended = [psutil.Process(each.process.pid) for each in (first, second)]
    engine.close()
    placement.close()
    assert not psutil.wait_procs(ended, timeout=60)[1]
