"""Which settings a resume may change, and what it leaves on record."""

import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from steadyrl.base.errors import UserError
from steadyrl.learners.optimizer import OptimizerSettings, learning_rate
from steadyrl.policies.model_settings import SmallMoE
from steadyrl.records.run_folder import RunFolder
from steadyrl.run.config import RunConfig, from_yaml
from steadyrl.run.execution import resume_run, start_run
from steadyrl.run.resumption import (
    changes_in_words,
    check_changes,
    lost_rows,
    resolve_from,
    settings_digest,
)
from steadyrl.training.journal import JournalSettings
from tests.run.test_execution import StopAfter, timeless
from tests.run.tiny import tiny_run

ENGINE = {"numerics": "fp8", "cache_memory": 64}
"""Memory that does not depend on what is free when the run starts."""


def short_run(**changes: Any) -> RunConfig:
    values = {"cold_start": None, "steps": 3, "evaluate_every": 2, "engine": ENGINE}
    return tiny_run(**{**values, **changes})


def end(path: Path, step: int) -> bytes:
    return (path / "checkpoints" / f"rl-{step:06d}" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps that has ended."""
    path = tmp_path_factory.mktemp("runs") / "three"
    start_run(short_run(), path)
    return path


def test_a_finished_run_is_extended_to_the_weights_of_a_longer_one(
    three: Path, tmp_path: Path
) -> None:
    path, whole = tmp_path / "extended", tmp_path / "whole"
    shutil.copytree(three, path)
    resume_run(path, config=short_run(steps=5))
    start_run(short_run(steps=5), whole)

    assert end(path, 5) == end(whole, 5)
    rows = [{k: v for k, v in row.items() if "score" not in k} for row in timeless(path)]
    assert rows == [{k: v for k, v in row.items() if "score" not in k} for row in timeless(whole)]
    assert from_yaml(path / "config.yaml").steps == 5
    (record,) = RunFolder(path).read_resumes()
    assert record["changes"] == {"steps": [3, 5]}
    assert (record["checkpoint"], record["lost_steps"], record["lost_seconds"]) == (
        "rl-000003",
        0,
        0.0,
    )
    assert record["version"] == version("steadyrl")
    assert record["started"]
    assert "commit" in record
    notes = [note["note"] for note in RunFolder(path).read_notes()]
    assert "Resumed with steps from 3 to 5." in notes


def test_what_a_run_decided_for_itself_stays_decided() -> None:
    recipe = short_run(steps=5, engine={"numerics": "fp8"})
    assert recipe.engine.cache_memory == "auto"
    assert resolve_from(recipe, short_run()) == short_run(steps=5)
    asked = short_run(engine={"numerics": "fp8", "cache_memory": 32})
    assert resolve_from(asked, short_run()) == asked


def test_what_an_interruption_lost_is_on_record(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        start_run(short_run(), path, [StopAfter("rl", 3)])
    rows = RunFolder(path).read_metrics()
    lost = rows[-1]["seconds"] + rows[-1]["evaluation_seconds"]
    assert lost_rows(RunFolder(path)) == (1, pytest.approx(lost))
    resume_run(path)

    (record,) = RunFolder(path).read_resumes()
    assert (record["checkpoint"], record["lost_steps"]) == ("rl-000002", 1)
    assert record["lost_seconds"] == pytest.approx(lost, abs=0.051)  # kept to a tenth
    assert record["changes"] == {}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 1}, "--seed cannot"),
        ({"optimizer": OptimizerSettings(learning_rate=1e-3)}, "--optimizer.learning-rate cannot"),
        ({"model": SmallMoE()}, "--model.experts"),
        ({"evaluation": {"tasks": 9}}, "--evaluation.tasks, --evaluation.samples cannot"),
        ({"engine": {**ENGINE, "numerics": "int8"}}, "--engine.numerics cannot"),
    ],
)
def test_what_decides_what_is_learned_cannot_change(
    three: Path, changes: dict[str, Any], named: str
) -> None:
    before = (three / "config.yaml").read_text()
    with pytest.raises(
        UserError, match=r"cannot change when a run is resumed: .* These can: "
    ) as e:
        resume_run(three, config=RunConfig.model_validate(short_run().model_dump() | changes))
    assert named in str(e.value)
    assert "--steps, --evaluate-every, --journal" in str(e.value)
    assert (three / "config.yaml").read_text() == before


def test_what_does_not_decide_what_is_learned_may_change(three: Path) -> None:
    old = short_run()
    journal = JournalSettings(checkpoint_every=1)
    new = short_run(evaluate_every=1, threads=2, journal=journal, trackers=["jsonl"])
    assert set(check_changes(old, new, RunFolder(three))) == {
        "evaluate_every",
        "threads",
        "journal.checkpoint_every",
        "trackers",
    }


def test_checkpoints_of_an_overlapped_run_are_part_of_what_it_learns(three: Path) -> None:
    overlap = {"engine": {"overlap": True}}
    old = RunConfig.model_validate(short_run().model_dump() | overlap)
    new = old.model_copy(update={"journal": JournalSettings(checkpoint_every=3)})
    with pytest.raises(UserError, match=r"--journal\.checkpoint-every cannot change"):
        check_changes(old, new, RunFolder(three))
    continuous = {"engine": {"overlap": True, "in_flight": "continue"}}
    old = RunConfig.model_validate(short_run().model_dump() | continuous)
    new = old.model_copy(update={"journal": JournalSettings(checkpoint_every=3)})
    assert set(check_changes(old, new, RunFolder(three))) == {"journal.checkpoint_every"}


def test_fewer_steps_than_are_done_are_refused(three: Path) -> None:
    with pytest.raises(UserError, match=r"--steps is 2, but 3 steps of .* are done\. Give 3 or"):
        resume_run(three, config=short_run(steps=2))


def test_a_schedule_that_depends_on_the_steps_is_told() -> None:
    cosine = OptimizerSettings(learning_rate=1e-3, schedule="cosine")
    old, new = short_run(steps=10, optimizer=cosine), short_run(steps=20, optimizer=cosine)
    told = changes_in_words(old, new, {"steps": [10, 20]})
    # Half of the way: the cosine is at 0.1 + 0.9 / 2 of the peak.
    assert learning_rate(cosine, 10, 20) == pytest.approx(0.55e-3)
    assert told == (
        "Resumed with steps from 10 to 20. The cosine schedule now ends at step 20: after step 10, "
        "where the learning rate was to end at 0.000122, it is 0.00055."
    )


def test_another_variant_is_told_without_the_settings_that_it_does_not_have() -> None:
    changes = {"placement.name": ["ray", "embedded"], "placement.engines": [2, None]}
    told = changes_in_words(short_run(), short_run(), changes)
    assert told == "Resumed with placement.name from ray to embedded."
    back = {name: after_before[::-1] for name, after_before in changes.items()}
    assert changes_in_words(short_run(), short_run(), back) == (
        "Resumed with placement.name from embedded to ray, placement.engines from None to 2."
    )


def edited(three: Path, path: Path, old: str, new: str) -> Path:
    shutil.copytree(three, path)
    file = path / "config.yaml"
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))
    return path


def test_settings_that_were_edited_in_the_folder_are_refused(three: Path, tmp_path: Path) -> None:
    path = edited(three, tmp_path / "edited", "max_operand: 4", "max_operand: 5")
    rows = (path / "metrics.jsonl").read_bytes()
    for config in (None, from_yaml(path / "config.yaml").model_copy(update={"steps": 5})):
        with pytest.raises(UserError, match=r"config\.yaml has been edited since the run wrote it"):
            resume_run(path, config=config)
    assert (path / "metrics.jsonl").read_bytes() == rows


def test_what_may_change_may_also_be_edited(three: Path, tmp_path: Path) -> None:
    path = edited(three, tmp_path / "edited", "\nsteps: 3", "\nsteps: 4  # one more")
    resume_run(path)
    assert RunFolder(path).read_metrics()[-1]["step"] == 4
    resume_run(path, config=from_yaml(path / "config.yaml").model_copy(update={"steps": 5}))
    assert RunFolder(path).read_metrics()[-1]["step"] == 5


@pytest.mark.parametrize(
    ("setting", "data"),
    [
        ("environment: {path: %s}", "environment.path"),
        ("environment: {rewards: [exact, {file: %s}]}", "environment.rewards.1.file"),
        ("environment: {program: python %s}", "environment.program.0"),
    ],
)
def test_files_that_have_moved_are_no_edit(setting: str, data: str) -> None:
    first, second = (f"seed: 1\n{setting % name}\n" for name in ("/a/b.csv", "/b.csv"))
    assert settings_digest(first, {data}) == settings_digest(second, {data})
    assert settings_digest(first, ()) != settings_digest(second, ())
    assert settings_digest(first, {data}) != settings_digest(first.replace("1", "2", 1), {data})
