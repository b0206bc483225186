"""The command on run folders: text, JSON, and one sentence for what cannot be diagnosed."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from steadyrl.base.errors import UserError
from steadyrl.cli.diagnose import diagnose_command
from steadyrl.records.run_folder import RunFolder
from steadyrl.run.execution import start_run
from tests.run.tiny import tiny_run


def printed(*arguments: str) -> str:
    console = Console(file=io.StringIO(), highlight=False, width=60)
    diagnose_command(list(arguments), console)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture
def collapsed(tmp_path: Path) -> Path:
    """A folder whose reward is lost after five steps."""
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.config.write_text("optimizer:\n  learning_rate: 0.006\n", encoding="utf-8")
    for step, reward in enumerate([0.3, 0.32, 0.31, 0.33, 0.3, *[0.0] * 7], start=1):
        folder.append_metrics({"stage": "rl", "step": step, "reward": reward})
    return folder.path


def test_the_diagnosis_is_printed_one_fact_a_line(collapsed: Path) -> None:
    lines = printed(str(collapsed)).splitlines()

    assert lines[0] == "run: collapsed at step 7, 12 steps read"
    assert lines[1] == "cause: updates too large"
    assert lines[2].startswith("why: Training reward fell to")
    assert lines[3].startswith("change: Set optimizer.learning_rate (now 0.006)")


def test_the_diagnosis_is_printed_as_json(collapsed: Path) -> None:
    values = json.loads(printed(str(collapsed), "--json"))

    assert (values["run"], values["status"], values["step"]) == ("run", "collapsed", 7)
    assert values["cause"]["name"] == "updates too large"


def test_a_run_of_this_package_records_all_that_a_diagnosis_rests_on(tmp_path: Path) -> None:
    start_run(tiny_run(), tmp_path / "run")

    assert json.loads(printed(str(tmp_path / "run"), "--json"))["missing"] == []


def test_a_run_that_has_only_been_evaluated_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.config.write_text("seed: 0\n", encoding="utf-8")
    folder.append_metrics({"stage": "rl", "step": 0, "score": 0.3})

    with pytest.raises(UserError, match="has no reinforcement step yet"):
        printed(str(tmp_path))


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run folder"):
        printed(str(tmp_path))
