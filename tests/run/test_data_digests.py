"""Data that have changed since a run read them are refused when it is resumed, or on record."""

import io
import json
import os
import shutil
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from rich.console import Console

from steadyrl.algorithms.policy_gradient import PolicyGradientSettings
from steadyrl.base.errors import UserError
from steadyrl.cli.train import train_command
from steadyrl.environments.agents import AgentSettings
from steadyrl.environments.custom import CustomSettings
from steadyrl.environments.dataset import DatasetSettings
from steadyrl.environments.hotpot_qa import HotpotQASettings
from steadyrl.environments.hotpot_questions import FileQuestions, HubQuestions
from steadyrl.environments.reasoning_gym_tasks import ReasoningGymSettings
from steadyrl.environments.sokoban import SokobanSettings
from steadyrl.environments.verifiable_math import VerifiableMathSettings
from steadyrl.evaluation.accuracy import EvaluationSettings
from steadyrl.lab.worlds.grid_drills import GridDrillSettings
from steadyrl.policies.model_settings import Pretrained
from steadyrl.records.run_folder import RunFolder
from steadyrl.run.config import ColdStart, RunConfig
from steadyrl.run.data_digests import data_digests
from steadyrl.run.execution import resume_run, start_run
from tests.run.test_execution import StopAfter, timeless
from tests.run.tiny import tiny_run

CORRIDORS = [("#" * n, f"#@${' ' * (n - 5)}.#"[:n], "#" * n) for n in range(6, 60)]


def write_levels(file: Path, corridors: list[tuple[str, ...]] = CORRIDORS) -> str:
    """The digest of the file."""
    file.write_text("\n\n".join("\n".join(rows) for rows in corridors))
    return sha256(file.read_bytes()).hexdigest()


def run_on(levels: Path) -> RunConfig:
    plain = tiny_run()
    return tiny_run(
        environment=SokobanSettings(levels=levels, rendering="compact"),
        algorithm=PolicyGradientSettings(prompts=2, group_size=2, mini_batches=1),
        evaluation=EvaluationSettings(tasks=1, samples=1),
        model=plain.model.model_copy(update={"max_positions": 256}),
        cold_start=None,
        steps=3,
        evaluate_every=3,
    )


def manifest_of(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((path / "run.json").read_text())
    return content


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with levels, a run on them that was interrupted, and one that was not."""
    folder = tmp_path_factory.mktemp("data").resolve()
    write_levels(folder / "levels.txt")
    start_run(run_on(folder / "levels.txt"), folder / "whole")
    with pytest.raises(KeyboardInterrupt):
        start_run(run_on(folder / "levels.txt"), folder / "cut", [StopAfter("rl", 3)])
    return folder


@pytest.fixture
def cut(begun: Path, tmp_path: Path) -> Path:
    """The interrupted run, moved elsewhere. Its levels are written anew, in case they changed."""
    write_levels(begun / "levels.txt")
    return Path(shutil.copytree(begun / "cut", tmp_path / "moved"))


def test_unchanged_data_are_resumed_to_the_same_bits_wherever_the_run_is(
    begun: Path, cut: Path
) -> None:
    expected = {"environment.levels": sha256((begun / "levels.txt").read_bytes()).hexdigest()}
    assert manifest_of(cut)["data"] == expected
    resume_run(cut)

    assert timeless(cut) == timeless(begun / "whole")
    weights = Path("checkpoints") / "rl-000003" / "model.safetensors"
    assert (cut / weights).read_bytes() == (begun / "whole" / weights).read_bytes()
    (record,) = RunFolder(cut).read_resumes()
    assert (record["changes"], record["data"]) == ({}, expected)
    assert "data" not in " ".join(note["note"] for note in RunFolder(cut).read_notes())


def test_changed_data_are_refused_and_nothing_is_written(begun: Path, cut: Path) -> None:
    old = manifest_of(cut)["data"]["environment.levels"]
    new = write_levels(begun / "levels.txt", CORRIDORS[::-1])
    before = {path: path.stat().st_mtime_ns for path in cut.rglob("*")}
    with pytest.raises(
        UserError,
        match=rf"environment\.levels \(was {old[:12]}, is {new[:12]}\)\. Restore them, begin a new "
        rf"run, or go on with the changed data by --resume {cut} --accept-changed-data\.$",
    ):
        resume_run(cut)
    assert {path: path.stat().st_mtime_ns for path in cut.rglob("*")} == before


def test_an_accepted_change_is_on_record_and_asked_about_once(begun: Path, cut: Path) -> None:
    old = manifest_of(cut)["data"]["environment.levels"]
    new = write_levels(begun / "levels.txt", CORRIDORS[::-1])
    accept = ["--resume", str(cut), "--accept-changed-data"]
    train_command(accept, Console(file=io.StringIO()))

    (record,) = RunFolder(cut).read_resumes()
    assert record["changes"] == {"data.environment.levels": [old, new]}
    assert record["data"] == {"environment.levels": new}
    assert manifest_of(cut)["data"] == {"environment.levels": old}
    (note,) = [n for n in RunFolder(cut).read_notes() if "changed data" in n["note"]]
    assert note["note"] == (
        f"Resumed with changed data: environment.levels (was {old[:12]}, is {new[:12]})."
    )
    assert note["step"] == 3
    resume_run(cut)
    write_levels(begun / "levels.txt")
    with pytest.raises(UserError, match=rf"\(was {new[:12]}, is {old[:12]}\)"):
        resume_run(cut)


@pytest.mark.parametrize("accept", [False, True])
def test_missing_data_are_named(accept: bool, begun: Path, cut: Path) -> None:
    (begun / "levels.txt").unlink()
    with pytest.raises(
        UserError,
        match=r"^environment\.levels is \S*levels\.txt, which is missing\. Put it back, or write "
        r"where it is now into the run's config\.yaml\.$",
    ):
        resume_run(cut, accept_changed_data=accept)
    assert RunFolder(cut).read_resumes() == []


def test_the_same_data_are_known_again_in_another_place(begun: Path, cut: Path) -> None:
    moved = (begun / "levels.txt").rename(cut.parent / "elsewhere.txt")
    text = (cut / "config.yaml").read_text()
    (cut / "config.yaml").write_text(text.replace(str(begun / "levels.txt"), str(moved)))
    resume_run(cut)
    assert timeless(cut) == timeless(begun / "whole")


def test_a_run_without_digests_is_resumed_with_a_note(begun: Path, cut: Path) -> None:
    content = manifest_of(cut)
    del content["data"]
    (cut / "run.json").write_text(json.dumps(content))
    resume_run(cut)

    (note,) = [n for n in RunFolder(cut).read_notes() if "digests" in n["note"]]
    assert note["note"] == (
        "Whether its data have changed is not known: no digests of them are on record yet."
    )
    assert timeless(cut) == timeless(begun / "whole")
    resume_run(cut)
    assert len([n for n in RunFolder(cut).read_notes() if "digests" in n["note"]]) == 1
    write_levels(begun / "levels.txt", CORRIDORS[::-1])
    with pytest.raises(UserError, match=r"environment\.levels \(was"):
        resume_run(cut)


# What has a digest.


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def listing(**files: str) -> str:
    """The digest of a folder: of the lines that sha256sum prints of its files."""
    return digest("".join(f"{digest(text)}  {name}\n" for name, text in files.items()))


def digests(**settings: Any) -> dict[str, str]:
    return data_digests(tiny_run(**{"cold_start": None, **settings}))


def test_files_of_every_environment_and_cold_start_have_the_digest_of_sha256sum(
    tmp_path: Path,
) -> None:
    for name in "abc":
        (tmp_path / name).write_text(name)
    a, b, c = (tmp_path / name for name in "abc")
    assert digests(environment=VerifiableMathSettings(path=a)) == {"environment.path": digest("a")}
    questions = HotpotQASettings(questions=FileQuestions(train=b, test=c))
    assert digests(environment=questions) == {
        "environment.questions.train": digest("b"),
        "environment.questions.test": digest("c"),
    }
    levels = SokobanSettings(levels=c, rendering="compact", symbols="permuted")
    drills = ColdStart(teacher=GridDrillSettings(environment=levels))
    assert digests(environment=levels, cold_start=drills) == {
        "environment.levels": digest("c"),
        "cold_start.teacher.environment.levels": digest("c"),
    }
    assert digests() == {}


def test_a_folder_has_the_digest_of_names_and_contents(tmp_path: Path) -> None:
    questions = HotpotQASettings(questions=HubQuestions(dataset=str(tmp_path)))
    (tmp_path / ".cache").mkdir()
    for name, text in {"b.json": "2", "a.json": "1", ".cache/lock": "now"}.items():
        (tmp_path / name).write_text(text)
    place = "environment.questions.dataset"
    assert digests(environment=questions) == {place: listing(**{"a.json": "1", "b.json": "2"})}
    (tmp_path / "b.json").rename(tmp_path / "c.json")
    assert digests(environment=questions) == {place: listing(**{"a.json": "1", "c.json": "2"})}
    assert digests(environment=HotpotQASettings(questions=HubQuestions())) == {}


def test_files_in_the_options_of_a_custom_environment_have_digests(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    os.mkfifo(tmp_path / "pipe")
    texts = ["no file", "\0", "x" * 5000, "~nobody-of-that-name/a", str(tmp_path), ""]
    options = {
        "file": str(tmp_path / "a"),
        "parts": [{"also": str(tmp_path / "a")}, 7, None],
        "texts": [*texts, str(tmp_path / "pipe")],
    }
    environment = CustomSettings(name="some.module:Maker", options=options)
    assert digests(environment=environment) == {
        "environment.options.file": digest("a"),
        "environment.options.parts.0.also": digest("a"),
    }


def test_the_file_of_code_that_a_setting_names_has_a_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "my_code_of_the_digests.py"
    file.write_text("raise RuntimeError('a digest imports nothing')\n")
    monkeypatch.syspath_prepend(tmp_path)
    environment = CustomSettings(name=f"{file.stem}:Maker")
    assert digests(environment=environment) == {"environment.name": digest(file.read_text())}
    for name in ("json:loads", "numpy:array", "steadyrl.recipes:RECIPES", "no.such.module:Maker"):
        assert digests(environment=CustomSettings(name=name)) == {}


def test_the_files_that_the_command_of_an_agent_names_have_digests(tmp_path: Path) -> None:
    file = tmp_path / "my agent.py"
    file.write_text("print(1)\n")
    environment = AgentSettings(program=f"python '{file}' --fast", tasks="json:loads")
    assert digests(environment=environment) == {"environment.program.0": digest("print(1)\n")}


def test_the_version_that_makes_the_tasks_of_reasoning_gym_is_kept() -> None:
    made = digests(environment=ReasoningGymSettings(dataset="gcd"))
    assert made == {"version of reasoning-gym": version("reasoning-gym")}


def test_tokenizer_template_and_configuration_of_a_checkpoint_have_a_digest_and_weights_have_none(
    tmp_path: Path,
) -> None:
    def kept() -> dict[str, str]:
        return digests(model=Pretrained(path=str(tmp_path)), routing_replay="none")

    assert kept() == {}
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_text("weights")
    assert kept() == {"model.path": listing(**{"config.json": "{}"})}
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    expected = {"config.json": "{}", "chat_template.jinja": "{{ messages }}"}
    assert kept() == {"model.path": listing(**expected)}


def test_a_checkpoint_of_the_hub_is_known_by_its_files_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "models--org--thing"
    for commit, text in {"a" * 40: "{}", "b" * 40: '{"changed": 1}'}.items():
        (repository / "snapshots" / commit).mkdir(parents=True)
        (repository / "snapshots" / commit / "config.json").write_text(text)
    (repository / "refs").mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for commit, text in {"a" * 40: "{}", "b" * 40: '{"changed": 1}'}.items():
        (repository / "refs" / "main").write_text(commit)
        made = digests(model=Pretrained(path="org/thing"), routing_replay="none")
        assert made == {"model.path": listing(**{"config.json": text})}


def test_data_of_ones_own_and_what_its_rewards_read_are_compared(tmp_path: Path) -> None:
    table, schema = tmp_path / "a.csv", tmp_path / "schema.json"
    table.write_text("prompt,answer\n1+1,2\n")
    schema.write_text("{}")
    rewards = [{"name": "json_schema", "file": str(schema)}]
    settings = DatasetSettings.model_validate({"path": str(table), "rewards": rewards})
    digests = data_digests(tiny_run(environment=settings, cold_start=None))
    assert digests == {
        "environment.path": sha256(table.read_bytes()).hexdigest(),
        "environment.rewards.0.file": sha256(schema.read_bytes()).hexdigest(),
    }
    table.unlink()
    with pytest.raises(UserError, match=r"environment\.path is .*a\.csv, which is missing"):
        data_digests(tiny_run(environment=settings, cold_start=None))


def test_rows_that_are_no_files_of_this_machine_have_a_digest_of_their_content(
    tmp_path: Path,
) -> None:
    table = tmp_path / "train.csv"
    values = {"path": str(tmp_path), "rewards": "exact"}
    settings = DatasetSettings.model_validate(values)
    digests = set()
    for text in ("1+1,2\n", "1+1,3\n", "1+1,2\n1+2,3\n", "1+1,2\n"):
        table.write_text(f"prompt,answer\n{text}")
        digests.add(settings.digest())
    assert len(digests) == 3
