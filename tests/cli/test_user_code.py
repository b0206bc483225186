"""Exceptions of the user's own classes, told by their type, message, file and line."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from steadyrl.records.run_folder import RunFolder
from tests.cli.tiny_demo import SIZES, TINY, Steady, options

ANY_TASKS = options({k: v for k, v in SIZES.items() if not k.startswith(("envir", "cold"))})

OWN = """\
from steadyrl.algorithms import PolicyGradientSettings
from steadyrl.environments import EnvironmentSettings, TeacherSettings, Arithmetic
from steadyrl.environments import ArithmeticSettings
from steadyrl.training.trackers import TrackerSettings

class Unmade(EnvironmentSettings):
    def make(self):
        return {}["board"]

class Lesson:
    def demonstrate(self, task, generator):
        return 1 / 0

class LessonSettings(TeacherSettings):
    def make(self, environment):
        return Lesson()

class Wide(TeacherSettings):
    def make(self, environment):
        raise RuntimeError("no lesson today")

class Muddled(PolicyGradientSettings):
    name: str = ""
    def make(self, parts):
        return [].pop()

class Attempt:
    def respond(self, text):
        raise LookupError(f"cannot read {len(text)} letters")

class Fails(Arithmetic):
    def __init__(self):
        super().__init__(ArithmeticSettings(operands=2))
    def start(self, task):
        return Attempt()

class Deaf:
    def log(self, stage, step, metrics):
        raise OSError("no line")
    def note(self, stage, step, text):
        pass
    def close(self):
        pass

class DeafSettings(TrackerSettings):
    def open(self, run):
        return Deaf()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a module of faulty classes."""
    (tmp_path / "own_faults.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("own_faults", None)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--environment", "own_faults:Unmade"), "KeyError: 'board' (own_faults.py:8). Fix it"),
        (
            ("--cold-start.teacher", "own_faults:LessonSettings"),
            "ZeroDivisionError: division by zero (own_faults.py:12).",
        ),
        (
            ("--cold-start.teacher", "own_faults:Wide"),
            "RuntimeError: no lesson today (own_faults.py:20). Fix it",
        ),
        (
            ("--algorithm", "own_faults:Muddled"),
            "IndexError: pop from empty list (own_faults.py:25). Fix it",
        ),
        (
            ("--environment", "own_faults:Fails", "--cold-start", "none"),
            "LookupError: cannot read ",
        ),
    ],
)
def test_a_part_that_raises_is_told_with_its_place(
    steadyrl: Steady, given: tuple[str, ...], message: str
) -> None:
    code, _, err = steadyrl("train", "demo", *ANY_TASKS, *given, "--out", "run")
    assert code == 2
    assert message in err
    assert "own_faults.py:" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_tracker_that_raises_is_noted_with_its_place(steadyrl: Steady, folder: Path) -> None:
    trackers = ("--trackers", "own_faults:DeafSettings")
    code, _, _ = steadyrl("train", "demo", *TINY, *trackers, "--out", "run")
    notes = [note["note"] for note in RunFolder(folder / "run").read_notes()]
    assert code == 0
    assert any("OSError: no line (own_faults.py:39)" in note for note in notes)
