"""Every command that the documents show can be typed as it stands."""

import re
import shlex
from pathlib import Path

import pytest

from steadyrl.base.setting_texts import settings_in
from steadyrl.base.settings import Settings
from steadyrl.base.variants import variants_of
from steadyrl.cli.compare_dumps import CompareDumpsOptions
from steadyrl.cli.consolidate import ConsolidateOptions
from steadyrl.cli.diagnose import DiagnoseOptions
from steadyrl.cli.evaluate import _configured
from steadyrl.cli.live import LiveOptions
from steadyrl.cli.merge import MergeOptions
from steadyrl.cli.mismatch import MismatchOptions
from steadyrl.cli.option_names import dashed
from steadyrl.cli.options import read_options
from steadyrl.cli.plan import PlanOptions
from steadyrl.cli.plan import configured as plan_configured
from steadyrl.cli.preflight import _configured as preflight_configured
from steadyrl.cli.push import PushOptions
from steadyrl.cli.recipes import RecipesOptions, find_recipe
from steadyrl.cli.report import ReportOptions
from steadyrl.cli.serve import ServedSettings
from steadyrl.cli.serve import configured as serve_configured
from steadyrl.cli.simulate import SimulateOptions
from steadyrl.cli.train import described, resumed
from steadyrl.cli.upcycle import UpcycleOptions
from steadyrl.lab.command import StudyOptions, _check_names, _made
from steadyrl.learners.fsdp.settings import FsdpLearnerSettings
from steadyrl.run.config import RunConfig, to_yaml
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with what the documents' commands name."""
    path = tmp_path_factory.mktemp("documented")
    for name in ("my-config.yaml", "my-run.yaml"):
        (path / name).write_text(to_yaml(tiny_run()))
    write_checkpoint(path / "my-checkpoint")
    for name in (*"abcdef", "sharded"):
        config = tiny_run(learner=FsdpLearnerSettings()) if name == "sharded" else tiny_run()
        (path / "runs" / name).mkdir(parents=True)
        (path / "runs" / name / "config.yaml").write_text(to_yaml(config))
    (path / "my_tasks.py").write_text(
        "from steadyrl.environments import EnvironmentSettings, TeacherSettings\n"
        "class Reverse:\n    pass\n"
        "class Digits:\n    pass\n"
        "class GuessDigit:\n    pass\n"
        "class GuessNumber:\n    pass\n"
        "class GuessTeacherSettings(TeacherSettings):\n"
        "    def make(self, environment):\n        return None\n"
        "class ReverseSettings(EnvironmentSettings):\n"
        "    digits: int = 6\n"
        "    def make(self):\n        return Reverse()\n"
    )
    (path / "my_objectives.py").write_text(
        "from steadyrl.objectives import MiniRL\n"
        "class SoftClip(MiniRL):\n    name: str = ''\n    width: float = 0.2\n"
    )
    (path / "my_rewards.py").write_text("def brevity(completions):\n    pass\n")
    return path


def test_the_documents_show_commands() -> None:
    assert len(COMMANDS) > 40
    assert {command.split()[0] for command in COMMANDS} >= {"train", "evaluate", "report", "study"}


def every_option(kind: type[Settings], prefix: str = "") -> set[str]:
    """Every option of `kind`, of every variant of its blocks."""
    found: set[str] = set()
    for name, field in kind.model_fields.items():
        if name == "name" and prefix:
            continue
        option, variants = prefix + dashed(name), variants_of(field)
        kinds = [settings_in(field)]
        if variants is not None:
            kinds += [variants.find(variant) for variant in variants.names()]
            kinds += [variants.wrapper]
        found |= {f"--{option}"}
        found |= {o for below in kinds if below for o in every_option(below, f"{option}.")}
    return found


def test_options_in_the_text_of_the_documents_are_those_of_a_variant() -> None:
    pages = [*PAGES, ROOT / "CHANGELOG.md", *(ROOT / "src" / "steadyrl").rglob("*.py")]
    mentioned = {
        option.replace("_", "-").removesuffix(".name")  # a block is chosen by either
        for page in pages
        for option in re.findall(r"--[a-z][a-z_-]*(?:\.[a-z_-]+[a-z])+", page.read_text("utf-8"))
    }
    assert len(mentioned) > 30
    of_examples = {  # classes on these pages
        "--algorithm.objective.cap",
        "--algorithm.objective.width",
        "--environment.digits",
        "--client.base-url",  # of vf-eval
        "--env.agent.runtime.type",
        "--env.taskset",
        "--env.taskset.environment",
    }
    known = every_option(RunConfig) | every_option(ServedSettings)
    assert mentioned - known == of_examples


@pytest.mark.parametrize("command", COMMANDS)
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
        case "serve":
            serve_configured(words[:1], words[1:])
        case "live":
            read_options(LiveOptions, words, program="live")
        case "preflight":
            preflight_configured(words[0], words[1:], wants_help=False)
        case "plan":
            plan_configured(words, PlanOptions, "plan", "", wants_help=False)
        case "simulate":
            plan_configured(words, SimulateOptions, "simulate", "", wants_help=False)
        case "recipes":
            chosen = read_options(RecipesOptions, words, program="recipes").name
            assert chosen is None or find_recipe(chosen)
        case "report":
            read_options(ReportOptions, words, program="report")
        case "diagnose":
            read_options(DiagnoseOptions, words, program="diagnose")
        case "mismatch":
            read_options(MismatchOptions, words, program="mismatch")
        case "compare-dumps":
            read_options(CompareDumpsOptions, words, program="compare-dumps")
        case "upcycle":
            read_options(UpcycleOptions, words, program="upcycle")
        case "merge":
            read_options(MergeOptions, words, program="merge")
        case "consolidate":
            read_options(ConsolidateOptions, words, program="consolidate")
        case "push":
            read_options(PushOptions, words, program="push")
        case "study":
            options = read_options(StudyOptions, words, program="study")
            _check_names(options)
            for study in options.names:
                assert ":" in study or _made(study, options.numerics)
        case _:
            assert name == "--version"
