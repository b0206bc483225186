"""Environments of the documentation, trained from the command line."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from steadyrl.records.run_folder import RunFolder
from tests.cli.tiny_demo import SIZES, Steady, options

PAGE = (Path(__file__).parents[2] / "docs" / "environments.md").read_text(encoding="utf-8")
EXAMPLES = (
    "class Reverse:",
    "class Digits(",
    "class GuessDigit:",
    "class GuessTeacher:",
    "class GuessNumber:",
    "class ShortestWins(",
)
SIZE = options({k: v for k, v in SIZES.items() if not k.startswith(("environment", "cold"))})

NO_TEACHER = ["--cold-start", "none"]
TEACHER = ["--cold-start.teacher", "my_tasks:GuessTeacherSettings", "--cold-start.steps", "2"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with the page's examples as `my_tasks.py`."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    wanted = [block for line in EXAMPLES for block in blocks if line in block]
    assert len(wanted) == len(EXAMPLES)
    (tmp_path / "my_tasks.py").write_text("\n\n".join(wanted))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("my_tasks", None)  # another test's
    yield tmp_path
    sys.modules.pop("my_tasks", None)


def test_an_environment_without_a_teacher_advises_to_leave_the_cold_start_out(
    steadyrl: Steady, folder: Path
) -> None:
    code, _, err = steadyrl("train", "demo", *SIZE, "--environment", "my_tasks:Reverse")
    assert code == 2
    assert "cannot demonstrate on" in err
    assert "Or leave the cold start out by --cold-start none" in err
    assert not (folder / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("Digits", NO_TEACHER),
        ("GuessDigit", ["--environment.turns", "3", *TEACHER]),
        ("GuessNumber", ["--environment.turns", "5", *NO_TEACHER]),
        ("ShortestWins", NO_TEACHER),
    ],
)
def test_each_example_of_the_page_is_trained_on(
    steadyrl: Steady, folder: Path, name: str, more: list[str]
) -> None:
    chosen = ["--environment", f"my_tasks:{name}", *more]
    code, out, err = steadyrl("train", "demo", *SIZE, *chosen, "--out", "run")
    assert (code, err) == (0, "")
    assert "report: run/report.html" in out
    rows = RunFolder(folder / "run").read_metrics()
    assert all(row.get("environment_failed_fraction", 0.0) == 0.0 for row in rows)
    assert "too few steps to tell" in (text := (folder / "run" / "report.html").read_text()) or (
        "nothing learned: all rewards 0" in text
    )


def test_the_same_command_again_says_how_to_continue(steadyrl: Steady, folder: Path) -> None:
    command = ["train", "demo", *SIZE, "--environment", "my_tasks:Digits", "--cold-start", "none"]
    assert steadyrl(*command, "--out", "run")[0] == 0
    before = (folder / "run" / "metrics.jsonl").read_bytes()
    code, _, err = steadyrl(*command, "--out", "run")
    assert code == 2
    assert "run already holds a run. Continue it with --resume run, or choose another --out" in err
    assert (folder / "run" / "metrics.jsonl").read_bytes() == before
