"""Every command that the documents show can be typed as it stands."""

import re
import shlex
from pathlib import Path

import pytest

from steadyrl.cli.diagnose import DiagnoseOptions
from steadyrl.cli.evaluate import _configured
from steadyrl.cli.mismatch import MismatchOptions
from steadyrl.cli.options import read_options
from steadyrl.cli.recipes import RecipesOptions, find_recipe
from steadyrl.cli.report import ReportOptions
from steadyrl.cli.train import described, resumed
from steadyrl.cli.upcycle import UpcycleOptions
from steadyrl.lab.command import StudyOptions, _check_names, _made
from steadyrl.run.config import to_yaml
from tests.run.checkpoints import write_checkpoint
from tests.run.tiny import tiny_run

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "algorithms").glob("*.md")),
    *sorted((ROOT / "src" / "steadyrl" / "recipes").glob("*.py")),
    *sorted((ROOT / "src" / "steadyrl" / "lab" / "worlds").glob("*.py")),
]


def shown(page: Path) -> list[str]:
    """The commands of a page, each in one line."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    return re.findall(r"^ *steadyrl (?![^\n]*\bRECIPE\b)(.+)$", text, flags=re.MULTILINE)


COMMANDS = sorted({command for page in PAGES for command in shown(page)})
QUICK = {*shown(ROOT / "README.md"), *shown(ROOT / "docs" / "environments.md")}
"""What `make test` tries; `make test-slow` tries all."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with what the documents' commands name."""
    path = tmp_path_factory.mktemp("documented")
    (path / "my-config.yaml").write_text(to_yaml(tiny_run()))
    write_checkpoint(path / "my-checkpoint")
    for name in "abcdef":
        (path / "runs" / name).mkdir(parents=True)
        (path / "runs" / name / "config.yaml").write_text(to_yaml(tiny_run()))
    (path / "my_tasks.py").write_text("class Reverse:\n    pass\n")
    return path


def test_the_documents_show_commands() -> None:
    assert len(COMMANDS) > 40
    assert {command.split()[0] for command in COMMANDS} >= {"train", "evaluate", "report", "study"}


@pytest.mark.parametrize(
    "command",
    [pytest.param(c, marks=[] if c in QUICK else [pytest.mark.slow]) for c in COMMANDS],
)
def test_a_documented_command_is_taken_by_the_parser(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    name, *words = shlex.split(command.partition("  >")[0].partition(" > ")[0], comments=True)
    match name:
        case "train" if "--resume" in words:
            resumed(words)
        case "train":
            described(words)
        case "evaluate":
            names = [word for word in words if word.startswith(("runs/", "my-checkpoint"))]
            _configured(names, words[len(names) :])
        case "recipes":
            chosen = read_options(RecipesOptions, words, program="recipes").name
            assert chosen is None or find_recipe(chosen)
        case "report":
            read_options(ReportOptions, words, program="report")
        case "diagnose":
            read_options(DiagnoseOptions, words, program="diagnose", switches=True)
        case "mismatch":
            read_options(MismatchOptions, words, program="mismatch")
        case "upcycle":
            read_options(UpcycleOptions, words, program="upcycle")
        case "study":
            options = read_options(StudyOptions, words, program="study", switches=True)
            _check_names(options)
            for study in options.names:
                assert ":" in study or _made(study, options.numerics)
        case _:
            assert name == "--version"
