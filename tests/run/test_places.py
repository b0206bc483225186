"""A run finds what its configuration names from any folder."""

from pathlib import Path

import pytest

from steadyrl.environments.dataset import DatasetSettings
from steadyrl.environments.dataset.json_reward import JSONSchemaReward
from steadyrl.environments.hotpot_qa import HotpotQASettings
from steadyrl.environments.hotpot_questions import FileQuestions, HubQuestions, QuestionSettings
from steadyrl.environments.sokoban import SokobanSettings
from steadyrl.environments.verifiable_math import VerifiableMathSettings
from steadyrl.lab.worlds.grid_drills import GridDrillSettings
from steadyrl.policies.model_settings import Pretrained
from steadyrl.run.config import ColdStart, RunConfig
from steadyrl.run.execution import resume_run, start_run
from steadyrl.run.places import with_absolute_paths
from tests.run.tiny import tiny_run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path.resolve()


def asked(questions: QuestionSettings) -> RunConfig:
    return tiny_run(environment=HotpotQASettings(questions=questions), cold_start=None)


def test_files_are_named_from_the_root(here: Path) -> None:
    problems = with_absolute_paths(VerifiableMathSettings(path=Path("data/problems.jsonl")))
    assert problems.path == here / "data" / "problems.jsonl"
    assert with_absolute_paths(problems) == problems

    config = with_absolute_paths(asked(FileQuestions(train=Path("train.json"), test=None)))
    assert config == asked(FileQuestions(train=here / "train.json", test=None))


def test_files_of_the_cold_start_are_named_from_the_root(here: Path) -> None:
    levels = SokobanSettings(levels=Path("levels.txt"), rendering="compact", symbols="permuted")
    teacher = GridDrillSettings(environment=levels)
    config = tiny_run(environment=levels, cold_start=ColdStart(teacher=teacher))
    made = with_absolute_paths(config)
    assert made.environment.levels == here / "levels.txt"
    assert made.cold_start.teacher.environment.levels == here / "levels.txt"


@pytest.mark.parametrize("name", ["org/thing", "./thing"])
def test_a_name_on_the_hub_stays_where_no_folder_has_it(here: Path, name: str) -> None:
    for there, expected in ((False, name), (True, str(here / name))):
        if there:
            (here / name).mkdir(parents=True)
        model = with_absolute_paths(tiny_run(model=Pretrained(path=name))).model
        questions = with_absolute_paths(HubQuestions(dataset=name))
        assert (model.path, questions.dataset) == (expected, expected)


def test_the_users_folder_is_written_out() -> None:
    named = with_absolute_paths(VerifiableMathSettings(path=Path("~/problems.jsonl")))
    assert named.path == Path.home().resolve() / "problems.jsonl"


@pytest.mark.slow
def test_a_run_is_resumed_from_another_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corridors = [("#" * n, f"#@${' ' * (n - 5)}.#"[:n], "#" * n) for n in range(6, 60)]
    (here / "levels.txt").write_text("\n\n".join("\n".join(rows) for rows in corridors))
    config = tiny_run(
        environment=SokobanSettings(levels=Path("levels.txt"), rendering="compact"),
        model=tiny_run().model.model_copy(update={"max_positions": 256}),
        cold_start=None,
        steps=1,
    )
    start_run(config, here / "run")
    (here / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert not Path("levels.txt").exists()
    resume_run(here / "run")


def test_data_of_ones_own_are_named_from_the_root(here: Path) -> None:
    rewards = [{"name": "json_schema", "file": "schema.json"}, "math"]
    settings = DatasetSettings.model_validate({"path": "a.csv", "rewards": rewards})
    assert with_absolute_paths(settings).path == "a.csv"
    (here / "a.csv").write_text("q")
    made = with_absolute_paths(settings)
    assert made.path == str(here / "a.csv")
    assert made.rewards[0] == JSONSchemaReward(file=here / "schema.json")
    assert made.rewards[1] == settings.rewards[1]
