"""Starting a run, going on with one, and what stands in the way of either."""

import json
import os
import shutil
from contextlib import nullcontext
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.utils import chat_template_utils

from steadyrl.base.errors import NonFiniteError, UserError
from steadyrl.base.kernel_caches import CACHES
from steadyrl.engines.local import LocalEngineSettings
from steadyrl.environments.arithmetic import Arithmetic, ArithmeticSettings
from steadyrl.environments.custom import CustomSettings
from steadyrl.environments.protocol import Episode, Split, Task
from steadyrl.learners.local import LocalLearnerSettings
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.policies.model_settings import Pretrained, SmallMoE
from steadyrl.policies.numerics import Numerics
from steadyrl.policies.tokenizers import CHAT_TEMPLATE
from steadyrl.records.run_folder import RunFolder
from steadyrl.run.assembly import Assembly
from steadyrl.run.config import from_yaml, to_yaml
from steadyrl.run.execution import resume_run, start_run
from steadyrl.training.checkpoint import load_checkpoint
from steadyrl.training.stage import Stage
from tests.learners.small import weights_of
from tests.run.checkpoints import write_checkpoint
from tests.run.tiny import tiny_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has ended."""
    path = tmp_path_factory.mktemp("runs") / "finished"
    start_run(tiny_run(), path)
    return path


class StopAfter:
    """A tracker that interrupts a run."""

    def __init__(self, stage: str, step: int) -> None:
        self.place = (stage, step)

    def log(self, stage: Stage, step: int, metrics: Any) -> None:
        if (stage.name, step) == self.place:
            raise KeyboardInterrupt

    def note(self, stage: Stage, step: int, text: str) -> None:
        pass

    def close(self) -> None:
        pass


def timeless(path: Path) -> list[dict[str, Any]]:
    rows = RunFolder(path).read_metrics()
    timed = ("seconds", "_per_second")
    return [{k: v for k, v in row.items() if not k.endswith(timed)} for row in rows]


def weights(path: Path) -> bytes:
    return (path / "checkpoints" / "rl-000006" / "model.safetensors").read_bytes()


def test_a_run_folder_is_complete(finished: Path) -> None:
    manifest = json.loads((finished / "run.json").read_text())

    saved = from_yaml(finished / "config.yaml")
    assert isinstance(saved.engine.cache_memory, int)  # a number in the place of auto
    assert saved == tiny_run(engine=saved.engine)
    assert saved.engine.model_copy(update={"cache_memory": "auto"}) == tiny_run().engine
    assert manifest["seed"] == 0
    assert manifest["packages"]["torch"] == torch.__version__
    assert [(row["stage"], row["step"]) for row in timeless(finished)] == [
        *(("cold_start", n) for n in range(1, 7)),
        *(("rl", n) for n in range(7)),
    ]
    assert [row["step"] for row in timeless(finished) if "score" in row] == [0, 3, 6]
    assert len(list((finished / "completions").glob("rl-*.jsonl"))) == 6
    assert list((finished / "tensorboard").iterdir())


@pytest.mark.slow
def test_equal_configurations_make_equal_runs(finished: Path, tmp_path: Path) -> None:
    start_run(tiny_run(), tmp_path / "again")

    assert timeless(tmp_path / "again") == timeless(finished)
    assert weights(tmp_path / "again") == weights(finished)


def test_a_run_limits_the_caches_of_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in CACHES:
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)
    start_run(tiny_run(steps=0, cold_start=None), tmp_path / "run")
    assert [os.environ[name] for name in CACHES] == ["64", "64"]


class Failing(Arithmetic):
    """Has no task of these numbers, and starts none of those."""

    def __init__(self, tasks: list[int], starts: list[int]) -> None:
        super().__init__(ArithmeticSettings(operands=2, max_operand=4, max_result=5))
        self._failing = tasks, starts

    def task(self, split: Split, index: int) -> Task:
        if split is Split.TRAIN and index in self._failing[0]:
            raise KeyError(index)
        task = super().task(split, index)
        return replace(task, id=f"{split}/{index}")

    def start(self, task: Task) -> Episode:
        if task.id in [f"train/{number}" for number in self._failing[1]]:
            raise ConnectionError("no service")
        return super().start(task)


@pytest.mark.parametrize("overlap", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_task_that_fails_is_counted_and_noted_and_the_run_goes_on(
    tmp_path: Path, overlap: bool
) -> None:
    """Of eight tasks a step, each with four episodes, two fail in the second step."""
    options = {"tasks": [9], "starts": [14]}
    maker = CustomSettings(name="tests.run.test_execution:Failing", options=options)
    engine = LocalEngineSettings(numerics=Numerics.FLOAT32, overlap=overlap)
    config = tiny_run(environment=maker, engine=engine, cold_start=None, steps=3)
    start_run(config, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    rows = [row for row in folder.read_metrics() if "environment_failed_fraction" in row]
    assert [row["environment_failed_fraction"] for row in rows] == [0, 8 / 32, 0]
    assert [row["gradient_steps"] for row in rows] == [2, 2, 2]
    notes = [note for note in folder.read_notes() if note["note"].startswith("Failures of the")]
    assert [note["step"] for note in notes] == [2]
    assert "Failing.task failed on number 9 of the train split: KeyError: 9" in notes[0]["note"]


def test_a_run_whose_tasks_all_fail_stops_with_the_reason(tmp_path: Path) -> None:
    options = {"tasks": list(range(8)), "starts": []}
    maker = CustomSettings(name="tests.run.test_execution:Failing", options=options)
    config = tiny_run(environment=maker, cold_start=None, steps=2)
    with pytest.raises(UserError, match=r"All 32 episodes .* number 0 of the train split: KeyE"):
        start_run(config, tmp_path / "run")


class Closing(Arithmetic):
    """Leaves a file when it is closed."""

    def __init__(self, file: str) -> None:
        super().__init__(ArithmeticSettings(operands=2, max_operand=4, max_result=5))
        self._file = Path(file)

    def close(self) -> None:
        self._file.touch(exist_ok=False)


@pytest.mark.parametrize("stops", [False, True])
def test_the_environment_is_closed_when_the_run_ends_or_stops(tmp_path: Path, stops: bool) -> None:
    file = tmp_path / "closed"
    maker = CustomSettings(name="tests.run.test_execution:Closing", options={"file": str(file)})
    config = tiny_run(environment=maker, cold_start=None, steps=1)
    with pytest.raises(KeyboardInterrupt) if stops else nullcontext():
        start_run(config, tmp_path / "run", [StopAfter("rl", 0)] if stops else [])
    assert file.exists()


@pytest.mark.parametrize(
    ("stage", "step"), [("cold_start", 1), ("rl", 3), pytest.param("rl", 0, marks=pytest.mark.slow)]
)
def test_an_interrupted_run_is_resumed_to_the_same_end(
    finished: Path, tmp_path: Path, stage: str, step: int
) -> None:
    path = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        start_run(tiny_run(), path, [StopAfter(stage, step)])
    resume_run(path)

    assert timeless(path) == timeless(finished)
    assert weights(path) == weights(finished)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{}, {"rounding": "stochastic"}, {"head_dtype": "float32"}], ids=str
)
def test_a_bfloat16_run_is_resumed_to_the_same_end(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    config = tiny_run(learner=LocalLearnerSettings(dtype="bfloat16", **settings))
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    start_run(config, whole)
    with pytest.raises(KeyboardInterrupt):
        start_run(config, cut, [StopAfter("rl", 3)])
    resume_run(cut)

    assert timeless(cut) == timeless(whole)
    assert weights(cut) == weights(whole)


@pytest.mark.slow
def test_a_run_that_chooses_its_replay_says_why_and_is_resumed_to_the_same_end(
    tmp_path: Path,
) -> None:
    settings = tiny_run().algorithm.model_copy(update={"mini_batches": 4})
    engine = LocalEngineSettings(numerics=Numerics.INT4)
    model = SmallMoE(layers=3, width=32, experts=16, expert_width=16, max_positions=64)
    config = tiny_run(routing_replay="auto", model=model, algorithm=settings, engine=engine)
    whole = tmp_path / "whole"
    start_run(config, whole)

    notes = RunFolder(whole).read_notes()
    rows = [row for row in timeless(whole) if row["stage"] == "rl" and row["step"] > 0]
    seen = next(row for row in rows if row["routing_disagreement"] > 0)
    assert seen["step"] < 5
    chosen = [note for note in notes if note["note"].startswith("Routing replay")]
    assert [(note["step"], note["note"][:20]) for note in chosen] == [
        (1, "Routing replay is r2"),
        (seen["step"] + 1, "Routing replay is r3"),
    ]
    assert f"{seen['routing_disagreement']:.1%} of router decisions" in chosen[1]["note"]
    assert {row["routing_disagreement"] for row in rows[seen["step"] :]} == {0.0}

    for step in (1, seen["step"] + 1):
        cut = tmp_path / f"cut{step}"
        with pytest.raises(KeyboardInterrupt):
            start_run(config, cut, [StopAfter("rl", step)])
        resume_run(cut)
        assert timeless(cut) == timeless(whole)
        assert weights(cut) == weights(whole)
        assert RunFolder(cut).read_notes() == notes


def test_one_mini_batch_chooses_no_replay(tmp_path: Path) -> None:
    settings = tiny_run().algorithm.model_copy(update={"mini_batches": 1})
    path = tmp_path / "run"
    start_run(tiny_run(routing_replay="auto", algorithm=settings, steps=3), path)

    def notes(run: Path) -> list[str]:
        return [note["note"][:22] for note in RunFolder(run).read_notes()]

    assert [note for note in notes(path) if "First step" not in note] == ["Routing replay is none"]
    explicit = tmp_path / "explicit"
    start_run(tiny_run(routing_replay="none", algorithm=settings, steps=3), explicit)
    assert timeless(explicit) == timeless(path)
    assert [note for note in notes(explicit) if "First step" not in note] == []


def test_no_steps_end_with_the_cold_start(tmp_path: Path) -> None:
    path = tmp_path / "run"
    start_run(tiny_run(steps=0), path)

    assert [(r["stage"], r["step"]) for r in timeless(path)][-2:] == [("cold_start", 6), ("rl", 0)]
    assert max(p.name for p in (path / "checkpoints").iterdir()) == "cold_start-000006"


def test_a_finished_run_is_resumed_to_what_it_is(finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(finished, path)
    resume_run(path)

    assert timeless(path) == timeless(finished)
    assert weights(path) == weights(finished)


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one_once_it_is_removed(
    finished: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    shutil.copytree(finished, path)
    newest = path / "checkpoints" / "rl-000006"
    (newest / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"rl-000006 is damaged: .* Remove that folder"):
        resume_run(path)
    shutil.rmtree(newest)
    resume_run(path)

    assert timeless(path) == timeless(finished)
    assert weights(path) == weights(finished)


def test_a_changed_model_in_the_configuration_is_refused(finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(finished, path)
    wider = tiny_run(model=tiny_run().model.model_copy(update={"expert_width": 16}))
    (path / "config.yaml").write_text(to_yaml(wider))

    with pytest.raises(UserError, match=r"config\.yaml has been edited since the run wrote it"):
        resume_run(path)
    (path / "run.json").unlink()  # as runs that did not record their settings
    with pytest.raises(UserError, match="holds another model than the run's configuration"):
        resume_run(path)


@pytest.mark.slow
@pytest.mark.parametrize("stages", ["one more", "one less"])
def test_a_changed_list_of_stages_is_refused_and_nothing_is_lost(
    stages: str, finished: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    if stages == "one less":
        shutil.copytree(finished, path)
        changed = tiny_run(cold_start=None)
    else:
        start_run(tiny_run(cold_start=None), path)
        changed = tiny_run()
    (path / "config.yaml").write_text(to_yaml(changed))
    (path / "run.json").unlink()  # as runs that did not record their settings
    metrics = (path / "metrics.jsonl").read_bytes()
    with pytest.raises(UserError, match=r"of a run whose stages now are .* it began with"):
        resume_run(path)
    assert (path / "metrics.jsonl").read_bytes() == metrics


def test_a_checkpoint_of_a_run_gives_its_learner_back(finished: Path) -> None:
    learner = Assembly.of(tiny_run()).learner
    load_checkpoint(finished / "checkpoints" / "rl-000004", learner)

    # Six steps of cold start, then four of two mini-batches each.
    assert learner.policy_version == 6 + 4 * 2


def test_a_folder_that_holds_a_run_is_not_overwritten(finished: Path) -> None:
    before = timeless(finished)
    remedy = rf"Continue it with --resume {finished}, or choose another --out\."
    with pytest.raises(UserError, match=rf"{finished} already holds a run\. {remedy}"):
        start_run(tiny_run(), finished)
    assert timeless(finished) == before


@pytest.mark.slow
def test_a_run_that_failed_before_it_measured_anything_makes_room(
    finished: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    broken = CustomSettings(name="tests.rollout.fakes:Hopeless")
    with pytest.raises(UserError, match=r"Hopeless\.task failed on number 0"):
        start_run(tiny_run(cold_start=None, environment=broken), path)
    assert (path / "config.yaml").exists()
    RunFolder(path).append_note({"stage": "of another", "step": 0, "note": "decided"})
    start_run(tiny_run(), path)

    assert timeless(path) == timeless(finished)
    assert weights(path) == weights(finished)
    assert RunFolder(path).read_notes() == RunFolder(finished).read_notes()


@pytest.mark.parametrize("left", ["metrics.jsonl", "checkpoints"])
def test_a_run_with_metrics_or_a_checkpoint_keeps_its_folder(
    finished: Path, tmp_path: Path, left: str
) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(tiny_run()))
    if left == "checkpoints":
        shutil.copytree(finished / left, tmp_path / left)
    else:
        shutil.copy(finished / left, tmp_path / left)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="already holds a run"):
        start_run(tiny_run(), tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "run"

    with pytest.raises(
        UserError, match=rf"run folder {path} cannot be written: Not a directory\. Choose another"
    ):
        start_run(tiny_run(), path)


@pytest.mark.parametrize("content", [[], ["run.json"]])
def test_a_folder_without_a_run_cannot_be_resumed(tmp_path: Path, content: list[str]) -> None:
    for name in content:
        (tmp_path / name).write_text("{}")

    with pytest.raises(
        UserError, match=rf"{tmp_path} is not the folder of a run: it has no config\.yaml"
    ):
        resume_run(tmp_path)


def test_a_run_that_diverges_stops_with_its_last_checkpoint_intact(tmp_path: Path) -> None:
    exploding = OptimizerSettings(learning_rate=1e38)
    with pytest.raises(NonFiniteError, match=r"At step \d, .* is not finite.* resume it"):
        start_run(tiny_run(optimizer=exploding), tmp_path / "run")
    learner = Assembly.of(tiny_run()).learner
    newest = max((tmp_path / "run" / "checkpoints").glob("*"), key=lambda path: path.name)
    load_checkpoint(newest, learner)

    assert newest.name == "cold_start-000006"
    assert all(bool(w.isfinite().all()) for w in weights_of(learner).values())


@pytest.mark.slow
def test_what_a_run_decides_about_its_checkpoint_is_noted_once(tmp_path: Path) -> None:
    model = Pretrained(path=str(write_checkpoint(tmp_path / "model", eos_token="<|pad|>")))
    config = tiny_run(model=model, routing_replay="none", steps=3, cold_start=None)
    with pytest.raises(KeyboardInterrupt):
        start_run(config, tmp_path / "run", [StopAfter("rl", 2)])
    resume_run(tmp_path / "run")

    notes = RunFolder(tmp_path / "run").read_notes()
    said = [(n["stage"], n["step"]) for n in notes if "by which the chat template" in n["note"]]
    assert said == [("rl", 0)]


class Tomorrow(datetime):
    @classmethod
    def now(cls, tz: object = None) -> "Tomorrow":
        return cls(2031, 2, 3)


@pytest.mark.slow
def test_a_run_resumed_on_another_day_goes_on_under_the_date_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dated = "{{ strftime_now('%Y%m%d') }}" + CHAT_TEMPLATE
    model = Pretrained(path=str(write_checkpoint(tmp_path / "model", chat_template=dated)))
    config = tiny_run(model=model, routing_replay="none", steps=2, cold_start=None)
    start_run(config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        start_run(config, tmp_path / "run", [StopAfter("rl", 1)])
    monkeypatch.setattr(chat_template_utils, "datetime", Tomorrow)
    resume_run(tmp_path / "run")

    assert from_yaml(tmp_path / "run" / "config.yaml").model.template_date == date.today()
    assert timeless(tmp_path / "run") == timeless(tmp_path / "whole")
    last = [(tmp_path / n / "checkpoints" / "rl-000002") for n in ("run", "whole")]
    assert len({(path / "model.safetensors").read_bytes() for path in last}) == 1
    assert len({(path / "chat_template.jinja").read_text() for path in last} | {dated}) == 1
    notes = [note["note"] for note in RunFolder(tmp_path / "run").read_notes()]
    assert f"The chat template writes the date: it stays {date.today()} for the whole run." in notes
