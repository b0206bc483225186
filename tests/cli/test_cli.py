"""The commands end to end."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.cli.train import described
from steadyrl.environments.custom import CustomSettings
from steadyrl.evaluation.accuracy import EvaluationSettings
from steadyrl.objectives import GRPO, Masking, MiniRL
from steadyrl.policies.model_settings import Pretrained
from steadyrl.recipes import RECIPES, find_recipe, recipe_names
from steadyrl.records.run_folder import RunFolder
from steadyrl.run.config import from_yaml, to_yaml
from steadyrl.run.execution import start_run
from tests.cli.tiny_demo import TINY, Steady
from tests.rollout.fakes import Quiz, ShortQuiz
from tests.run.checkpoints import write_checkpoint
from tests.run.tiny import tiny_run

# Training.


def test_train_prints_scores_and_the_path_of_a_report_and_nothing_on_stderr(
    steadyrl: Steady, tmp_path: Path
) -> None:
    path = tmp_path / "demo"
    code, out, err = steadyrl("train", "demo", "--out", str(path), *TINY)
    rows = RunFolder(path).read_metrics()
    first, last = [
        f"{row['score']:.3f} (95% interval {row['score_low']:.3f} to {row['score_high']:.3f})"
        for row in rows
        if "score" in row
    ]

    assert (code, err) == (0, "")
    assert f"held-out score: {first} before, {last} after\n" in out
    assert f"report: {path / 'report.html'}\n" in out
    assert "cold_start 6/6  entropy " in out
    assert "rl 2/2  reward " in out
    assert (path / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_options_of_the_command_line_reach_the_configuration(demo: Path) -> None:
    config = from_yaml(demo / "config.yaml")
    recipe = RECIPES["demo"]()

    assert config.model.width == 16
    assert config.routing_replay == "r3"
    assert config.cold_start.optimizer.learning_rate == 0.1
    assert config.cold_start.teacher == recipe.cold_start.teacher
    assert config.optimizer == recipe.optimizer
    manifest = json.loads((demo / "run.json").read_text())
    assert manifest["seed"] == config.seed


def test_an_algorithm_is_what_was_published_under_its_name_with_single_options_on_top() -> None:
    changes = ["--published", "grpo", "--algorithm.objective.clip-high", ".inf"]
    config, own = described(["demo", *changes])
    settings, recipe = config.algorithm, RECIPES["demo"]()

    assert settings.objective == GRPO(clip_high=float("inf"))
    assert settings.advantage == "group_mean_std"
    assert settings.aggregation == "length_norm"
    assert settings.group_size == recipe.algorithm.group_size
    assert config.model_copy(update={"algorithm": recipe.algorithm}) == recipe
    assert own.out == Path("runs/demo")


def test_an_algorithm_brings_its_correction() -> None:
    config, _ = described(["demo", "--published", "icepop"])
    assert config.algorithm.correction == Masking(low=0.5, high=5.0)

    changes = ["--algorithm.correction.high", "4.0"]
    config, _ = described(["demo", "--published", "icepop", *changes])
    assert config.algorithm.correction == Masking(low=0.5, high=4.0)


def test_an_algorithm_goes_to_experiential_rl_where_that_trains() -> None:
    recipe = find_recipe("erl-frozenlake-tiny")()
    config, _ = described(["erl-frozenlake-tiny", "--published", "minirl"])
    assert isinstance(config.algorithm, ExperientialSettings)
    assert isinstance(recipe.algorithm, ExperientialSettings)
    assert config.algorithm.objective == MiniRL()
    assert config.algorithm.advantage == "group_mean"
    assert config.algorithm.group_size == recipe.algorithm.group_size


def test_a_checkpoint_takes_the_place_of_the_model() -> None:
    config, own = described(["minirl", "--model", "org/model", "--out", "elsewhere"])

    assert config.model == Pretrained(path="org/model")
    recipe = RECIPES["minirl"]()
    assert config.model_copy(update={"model": recipe.model}) == recipe
    assert own.out == Path("elsewhere")


def test_a_printed_recipe_trains_as_the_recipe_it_was(steadyrl: Steady, tmp_path: Path) -> None:
    code, text, _ = steadyrl("recipes", "demo")
    file = tmp_path / "mine.yaml"
    file.write_text(text)

    assert code == 0
    assert from_yaml(file) == RECIPES["demo"]()


def test_a_yaml_file_is_trained_in_a_folder_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(to_yaml(tiny_run(steps=1)))

    config, own = described([str(tmp_path / "mine.yaml"), "--seed", "5"])

    assert config == tiny_run(steps=1, seed=5)
    assert own.out == Path("runs/mine")


def test_resume_goes_on_and_reports(demo: Path, tmp_path: Path, steadyrl: Steady) -> None:
    path = tmp_path / "demo"
    shutil.copytree(demo, path)
    shutil.rmtree(path / "checkpoints" / "rl-000002")
    (path / "report.html").unlink()
    code, out, err = steadyrl("train", "--resume", str(path))

    assert (code, err) == (0, "")
    assert "rl 2/2" in out
    assert f"report: {path / 'report.html'}" in out
    assert len(RunFolder(path).read_metrics()) == len(RunFolder(demo).read_metrics())
    model = Path("checkpoints") / "rl-000002" / "model.safetensors"
    assert (path / model).read_bytes() == (demo / model).read_bytes()


@pytest.mark.slow
def test_a_finished_run_says_how_it_is_extended(
    demo: Path, tmp_path: Path, steadyrl: Steady
) -> None:
    path = tmp_path / "demo"
    shutil.copytree(demo, path)
    code, out, _ = steadyrl("train", "--resume", str(path))
    assert code == 0
    again = f"steadyrl train --resume {path} --steps 4"
    assert f"All 2 steps were taken already. Extend it with: {again}\n" in out

    code, out, _ = steadyrl(*again.split()[1:])
    assert code == 0
    assert "note (rl step 3): Resumed with steps from 2 to 4." in out
    assert "rl 4/4  reward " in out


# Other commands.


def test_evaluate_measures_the_last_checkpoint(demo: Path, steadyrl: Steady) -> None:
    asked = ("--tasks", "3", "--samples", "2", "--seed", "9")
    first = steadyrl("evaluate", str(demo), *asked)

    assert first == steadyrl("evaluate", str(demo), *asked)
    name = re.escape(f"{demo} (rl-000002)")
    assert re.fullmatch(rf"{name}, {MEASURED}\n", first[1]), first
    assert (first[0], first[2]) == (0, "")


SMALL = ("--tasks", "3", "--samples", "2")
NUMBER = r"\d\.\d{3}"
MEASURED = rf"3 test tasks: avg@2 {NUMBER} \(95% interval {NUMBER} to {NUMBER}\), pass@2 {NUMBER}"


def test_a_plain_checkpoint_is_measured_on_the_tasks_of_options(
    tmp_path: Path, steadyrl: Steady
) -> None:
    path = write_checkpoint(tmp_path / "plain")
    tasks = ("--environment", "arithmetic", "--environment.operands", "2")
    options = (*tasks, "--sampling.max-new-tokens", "4", "--engine.numerics", "float32")
    code, out, err = steadyrl("evaluate", str(path), *SMALL, *options)

    assert (code, err) == (0, "")
    assert re.fullmatch(rf"{re.escape(str(path))}, {MEASURED}\n", out)
    code, _, err = steadyrl("evaluate", str(path), *SMALL)
    assert code == 2
    assert "nothing says on which tasks to measure it. Name them with --environment" in err


def test_a_checkpoint_of_a_run_is_measured_as_the_run_is_and_compared_with_it(
    demo: Path, steadyrl: Steady
) -> None:
    checkpoint = str(demo / "checkpoints" / "rl-000002")
    code, out, err = steadyrl("evaluate", str(demo), checkpoint, *SMALL)
    run, plain, difference = out.splitlines()

    assert (code, err) == (0, "")
    name = f"{demo} (rl-000002)"
    assert run.removeprefix(name) == plain.removeprefix(checkpoint)
    assert difference == (
        f"{checkpoint} against {name}: +0.000 (95% interval +0.000 to +0.000, over 3 tasks)"
    )
    assert steadyrl("evaluate", checkpoint, *SMALL)[1] == f"{plain}\n"


def three_quizzes() -> Quiz:
    """An environment of three tasks, for `environment.name`."""
    return ShortQuiz(3)


def test_evaluate_counts_the_tasks_that_there_are(tmp_path: Path, steadyrl: Steady) -> None:
    quiz = CustomSettings(name="tests.cli.test_cli:three_quizzes")
    evaluation = EvaluationSettings(tasks=3, samples=1)
    start_run(tiny_run(environment=quiz, cold_start=None, steps=1, evaluation=evaluation), tmp_path)
    code, out, _ = steadyrl("evaluate", str(tmp_path), "--tasks", "40", "--samples", "2")

    assert code == 0
    assert out.startswith(f"{tmp_path} (rl-000001), 3 test tasks: avg@2 ")
    assert out.endswith("The test split has only 3 tasks, 40 were requested.\n")


def test_report_is_written_anew(demo: Path, tmp_path: Path, steadyrl: Steady) -> None:
    path = tmp_path / "demo"
    shutil.copytree(demo, path)
    (path / "report.html").unlink()

    assert steadyrl("report", str(path)) == (0, f"report: {path / 'report.html'}\n", "")
    assert (path / "report.html").is_file()


def test_report_compares_with_other_runs(demo: Path, tmp_path: Path, steadyrl: Steady) -> None:
    path = tmp_path / "demo"
    shutil.copytree(demo, path)
    code, out, _ = steadyrl("report", str(path), "--beside", str(demo))
    assert (code, out) == (0, f"report: {path / 'report.html'}\n")
    assert "Comparison with other runs" in (path / "report.html").read_text()


def test_report_draws_a_figure_where_asked(demo: Path, tmp_path: Path, steadyrl: Steady) -> None:
    figure = tmp_path / "demo.svg"
    code, out, _ = steadyrl("report", str(demo), "--figure", str(figure))

    assert code == 0
    assert out.splitlines()[-1] == f"figure: {figure}"
    assert "<svg" in figure.read_text()


def test_recipes_are_listed_with_what_they_are(steadyrl: Steady) -> None:
    code, out, _ = steadyrl("recipes")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines() if not line.startswith(" "))

    assert code == 0
    assert set(lines) == set(recipe_names()) > set(RECIPES)
    assert lines["demo"].startswith("A small Mixture-of-Experts model learns sums from scratch, ")


def test_the_version_is_printed(steadyrl: Steady) -> None:
    assert steadyrl("--version") == (0, f"steadyrl {version('steadyrl')}\n", "")


def test_help_on_a_kind_comes_before_what_it_requires(steadyrl: Steady) -> None:
    for name, told in (
        ("math", 'objects with the fields "problem" and "answer"'),
        (
            "tests.cli.test_cli:three_quizzes",
            "--environment.options {name: value, ...} (empty)",
        ),
        ("hotpot_qa", "--environment.questions hub, file, coded, synthetic, module:Class"),
    ):
        code, out, err = steadyrl("train", "minirl", "--environment", name, "--help")
        assert (code, err) == (0, "")
        assert told in " ".join(out.replace("│", " ").split())


@pytest.mark.slow
def test_characters_that_a_terminal_lacks_do_not_end_a_command() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "steadyrl.cli.main", "recipes", "demo"]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.isascii()


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_usage_names_every_command(steadyrl: Steady, arguments: list[str]) -> None:
    code, out, _ = steadyrl(*arguments)

    assert code == 0
    for command in (
        "recipes [NAME]",
        "train RECIPE",
        "train --resume",
        "evaluate",
        "report",
        "study",
    ):
        assert f"steadyrl {command}" in out


@pytest.mark.parametrize(
    "command", ["train", "evaluate", "report", "recipes", "diagnose", "mismatch", "study"]
)
def test_every_command_takes_help(steadyrl: Steady, command: str) -> None:
    code, out, err = steadyrl(command, "--help")

    assert (code, err) == (0, "")
    assert f"usage: steadyrl {command}" in out


def test_help_of_a_recipe_shows_every_setting_with_meaning_and_value(steadyrl: Steady) -> None:
    code, out, _ = steadyrl("train", "demo", "--help")
    text = " ".join(out.replace("│", " ").split())

    assert code == 0
    assert (
        "--routing-replay none, r2, r3, auto (auto) Expert choices in the trainer: its own " in text
    )
    assert (
        "--algorithm.mini-batches whole number, at least 1 (1) Number of optimizer steps for each "
        in text
    )
    assert "--engine.numerics float32, bfloat16, fp8, int8, int4 (fp8)" in text
    assert "A small Qwen3-MoE with random weights and a character tokenizer." in text
    assert "--cold-start.teacher.error-rate number, at least 0, below 1 (0.25) Probability " in text


def test_yaml_of_every_recipe_is_plain_yaml(steadyrl: Steady) -> None:
    for name in recipe_names():
        _, out, _ = steadyrl("recipes", name)
        assert yaml.safe_load(out) == yaml.safe_load(to_yaml(find_recipe(name)()))
