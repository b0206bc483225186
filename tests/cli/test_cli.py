"""The commands end to end, and one clear sentence with exit code 2 for what cannot be used."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from steadyrl.algorithms.objective_settings import GRPO, Masking
from steadyrl.cli.main import main
from steadyrl.cli.train import described
from steadyrl.policies.loading import Pretrained, SmallMoE
from steadyrl.recipes import RECIPES
from steadyrl.records.run_folder import RunFolder
from steadyrl.run.config import from_yaml, to_yaml
from tests.run.checkpoints import write_checkpoint
from tests.run.tiny import tiny_run

SIZES = {
    "model.layers": 1,
    "model.width": 16,
    "model.heads": 2,
    "model.kv-heads": 1,
    "model.head-dim": 8,
    "model.experts": 4,
    "model.expert-width": 8,
    "environment.operands": 2,
    "environment.max-operand": 4,
    "environment.max-result": 5,
    "cold-start.steps": 6,
    "cold-start.batch-size": 32,
    "cold-start.optimizer.learning-rate": 0.1,
    "cold-start.optimizer.warmup-steps": 0,
    "policy-gradient.prompts": 4,
    "policy-gradient.group-size": 4,
    "steps": 2,
    "sampling.max-new-tokens": 4,
    "evaluation.tasks": 4,
    "evaluation.samples": 2,
    "journal.checkpoint-every": 2,
}
"""The demo in a second."""


def options(sizes: dict[str, float]) -> list[str]:
    return [word for name, value in sizes.items() for word in (f"--{name}", str(value))]


TINY = options(SIZES)

Steady = Callable[..., tuple[int, str, str]]


@pytest.fixture
def steadyrl(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Steady:
    """Runs a command; returns exit code, output and errors."""
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main(arguments)
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo, with tiny sizes, run to its end by the command line."""
    path = tmp_path_factory.mktemp("runs") / "demo"
    assert main(["train", "demo", "--out", str(path), "--routing-replay", "r3", *TINY]) == 0
    return path


# Training.


def test_train_prints_scores_and_the_path_of_a_report_and_nothing_on_stderr(
    steadyrl: Steady, tmp_path: Path
) -> None:
    path = tmp_path / "demo"
    code, out, err = steadyrl("train", "demo", "--out", str(path), *TINY)
    rows = RunFolder(path).read_metrics()
    scores = [row["score"] for row in rows if "score" in row]

    assert (code, err) == (0, "")
    assert f"held-out score: {scores[0]:.3f} before, {scores[-1]:.3f} after\n" in out
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
    changes = ["--algorithm", "grpo", "--policy-gradient.objective.clip-high", ".inf"]
    config, path = described(["demo", *changes])
    settings, recipe = config.policy_gradient, RECIPES["demo"]()

    assert settings.objective == GRPO(clip_high=float("inf"))
    assert settings.advantage == "group_mean_std"
    assert settings.aggregation == "length_norm"
    assert settings.group_size == recipe.policy_gradient.group_size
    assert config.model_copy(update={"policy_gradient": recipe.policy_gradient}) == recipe
    assert path == Path("runs/demo")


def test_an_algorithm_brings_its_correction() -> None:
    config, _ = described(["demo", "--algorithm", "icepop"])
    assert config.policy_gradient.correction == Masking(low=0.5, high=5.0)

    changes = ["--policy-gradient.correction.high", "4.0"]
    config, _ = described(["demo", "--algorithm", "icepop", *changes])
    assert config.policy_gradient.correction == Masking(low=0.5, high=4.0)


def test_a_checkpoint_takes_the_place_of_the_model() -> None:
    config, path = described(["demo", "--checkpoint", "org/model", "--out", "elsewhere"])

    assert config.model == Pretrained(path="org/model")
    assert config.model_copy(update={"model": SmallMoE()}) == RECIPES["demo"]()
    assert path == Path("elsewhere")


def test_a_printed_recipe_trains_as_the_recipe_it_was(steadyrl: Steady, tmp_path: Path) -> None:
    code, text, _ = steadyrl("recipes", "demo")
    file = tmp_path / "mine.yaml"
    file.write_text(text)

    assert code == 0
    assert from_yaml(file) == RECIPES["demo"]()


def test_a_yaml_file_is_trained_in_a_folder_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(to_yaml(tiny_run(steps=1)))

    assert described([str(tmp_path / "mine.yaml"), "--seed", "5"]) == (
        tiny_run(steps=1, seed=5),
        Path("runs/mine"),
    )


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


# Other commands.


def test_evaluate_measures_the_last_checkpoint(demo: Path, steadyrl: Steady) -> None:
    asked = ("--tasks", "3", "--samples", "2", "--seed", "9")
    first = steadyrl("evaluate", str(demo), *asked)
    number = r"\d\.\d{3}"

    assert first == steadyrl("evaluate", str(demo), *asked)
    assert re.fullmatch(rf"rl-000002, 3 test tasks: avg@2 {number}, pass@2 {number}\n", first[1]), (
        first
    )
    assert (first[0], first[2]) == (0, "")


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
    assert "Beside other runs" in (path / "report.html").read_text()


def test_report_draws_a_figure_where_asked(demo: Path, tmp_path: Path, steadyrl: Steady) -> None:
    figure = tmp_path / "demo.svg"
    code, out, _ = steadyrl("report", str(demo), "--figure", str(figure))

    assert code == 0
    assert out.splitlines()[-1] == f"figure: {figure}"
    assert "<svg" in figure.read_text()


def test_recipes_are_listed_with_what_they_are(steadyrl: Steady) -> None:
    code, out, _ = steadyrl("recipes")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())

    assert code == 0
    assert set(lines) == set(RECIPES)
    assert lines["demo"] == "The main job in minutes on two CPU cores."


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
        "--routing-replay {none,r2,r3,auto} Whose expert choices the trainer uses: its own " in text
    )
    assert (
        "Optimiser steps for each rollout: 1 is on-policy, N > 1 off-policy. (default: 1)" in text
    )
    assert "--engine.numerics {float32,bfloat16,fp8,int8,int4}" in text
    assert "A small Qwen3-MoE with random weights and a character tokenizer." in text
    assert "--cold-start.teacher.error-rate FLOAT Probability that" in text
    documented = set(re.findall(r"--([a-z.-]+)", out))
    other_algorithms = {"erl", "second-chance"}  # chosen by a recipe, not by an option
    assert documented >= set(option_names(RECIPES["demo"]().model_dump())) - other_algorithms


def option_names(values: dict[str, object], prefix: str = "") -> list[str]:
    names = []
    for name, value in values.items():
        option = prefix + name.replace("_", "-")
        names += option_names(value, f"{option}.") if isinstance(value, dict) else [option]
    return names


# What cannot be used.


def refusal(result: tuple[int, str, str]) -> str:
    """The one sentence on stderr."""
    code, out, err = result
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert err.startswith("steadyrl: ")
    assert err.count("\n") == 1
    return err.removeprefix("steadyrl: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "trian demo",
            "There is no command 'trian'. The commands are train, evaluate, report, recipes, ",
        ),
        ("train", "needs a recipe's name or a YAML file first. 'steadyrl recipes' lists them"),
        ("train --steps 3", "needs a recipe's name or a YAML file first."),
        ("train demmo", "no recipe 'demmo'. Did you mean 'demo'? 'steadyrl recipes' lists them"),
        ("train xyz", "There is no recipe 'xyz'. 'steadyrl recipes' lists them; a YAML file works"),
        ("train none.yaml", "There is no configuration at none.yaml. Give a YAML file, or a"),
        (
            "train demo --steps=-1",
            "demo is not valid: steps: Input should be greater than or equal",
        ),
        ("train demo --policy-gradient.group-size 1", "group_size is 1, .* Set group_size to 2 or"),
        ("train demo --routing-replay r2", "routing_replay is 'r2' with mini_batches 1: .* Use"),
        ("train demo --checkpoint ./nowhere", "No checkpoint folder at './nowhere'. Give an exist"),
        ("train --resume nowhere", "nowhere holds no run to resume. Give a folder that"),
        ("train --resume=nowhere", "nowhere holds no run to resume. Give a folder that"),
        ("evaluate nowhere", "nowhere holds no run. Give a folder that 'steadyrl train' wrote."),
        ("evaluate nowhere --seed -1", "--seed is -1. Give a number that is not negative."),
        ("report nowhere", "nowhere is not a run folder: it has no config.yaml. Give the folder"),
        ("recipes demmo", "There is no recipe 'demmo'. Did you mean 'demo'?"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(
    steadyrl: Steady,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)

    assert re.search(message.replace("?", r"\?"), refusal(steadyrl(*arguments.split())))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        ("train demo --stepz 3", ["Unrecognized options: --stepz", "--steps INT"]),
        ("train demo --engine.numerics fp7", ["'fp7' for argument '--engine.numerics'", "'fp8'"]),
        ("train demo --algorithm ppo", ["invalid choice 'ppo' for argument '--algorithm'"]),
        ("train demo --steps few", ["Error parsing --steps", "'few'"]),
        (
            "train demo --algorithm grpo --policy-gradient.objective.weight-cap 3",
            ["Unrecognized options: --policy-gradient.objective.weight-cap"],
        ),
        ("train --resume somewhere --steps 3", ["Unrecognized options: --steps"]),
        ("evaluate", ["Missing from steadyrl evaluate", "The run folder."]),
    ],
)
def test_options_that_cannot_be_read_are_refused_with_what_would_do(
    steadyrl: Steady, arguments: str, messages: list[str]
) -> None:
    code, out, err = steadyrl(*arguments.split())

    assert (code, out) == (2, "")
    assert "Traceback" not in err
    for message in messages:
        assert message in err
    assert "--help" in err


def test_replay_of_a_dense_checkpoint_is_refused(steadyrl: Steady, tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "dense")
    changes = ("--checkpoint", str(path), "--routing-replay", "r3", "--out", str(tmp_path / "run"))
    code, _, err = steadyrl("train", "demo", *changes)

    assert code == 2
    assert err.splitlines()[-1] == (  # Transformers draws a bar before it, for large checkpoints
        "steadyrl: routing_replay is 'r3', but Qwen3ForCausalLM is dense and has no routing. "
        "Set routing_replay to 'none'."
    )
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written_is_refused(steadyrl: Steady, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "run"

    message = refusal(steadyrl("train", "demo", "--out", str(out), *TINY))
    assert f"The run folder {out} cannot be written: Not a directory. Choose another" in message


def test_a_folder_with_a_run_is_refused(steadyrl: Steady, demo: Path) -> None:
    message = refusal(steadyrl("train", "demo", "--out", str(demo)))
    assert "already holds a run. Continue it with --resume" in message


@pytest.mark.parametrize("command", ["train --resume", "evaluate"])
def test_a_damaged_checkpoint_is_refused(
    steadyrl: Steady, demo: Path, tmp_path: Path, command: str
) -> None:
    path = tmp_path / "demo"
    shutil.copytree(demo, path)
    file = path / "checkpoints" / "rl-000002" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])

    message = refusal(steadyrl(*command.split(), str(path)))
    assert "model.safetensors has changed since it was written. Remove that folder" in message


@pytest.mark.parametrize(
    ("asked", "message"),
    [(["--tasks", "0"], "tasks: Input should be greater"), (["--samples", "0"], "samples: ")],
)
def test_an_evaluation_of_nothing_is_refused(
    steadyrl: Steady, demo: Path, asked: list[str], message: str
) -> None:
    assert message in refusal(steadyrl("evaluate", str(demo), *asked))


def test_evaluating_a_run_without_checkpoint_is_refused(steadyrl: Steady, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(tiny_run()))

    message = refusal(steadyrl("evaluate", str(tmp_path)))
    assert "has no checkpoint yet. Let it run to its first one." in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("steps: [1", "bad.yaml is not YAML: "),
        ("steps: 3", "bad.yaml is not valid: environment: Field required"),
        ("[]", "bad.yaml is not valid: Input should be a valid dictionary"),
    ],
)
def test_a_malformed_yaml_file_is_refused(
    steadyrl: Steady, tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "bad.yaml").write_text(content)

    assert message in refusal(steadyrl("train", str(tmp_path / "bad.yaml")))


def test_divergence_is_told_in_one_sentence(steadyrl: Steady, tmp_path: Path) -> None:
    sizes = options(SIZES | {"cold-start.optimizer.learning-rate": 1e38})
    code, _, err = steadyrl("train", "demo", *sizes, "--out", str(tmp_path / "run"))
    remedy = r"Set a lower learning_rate .* in the run's config\.yaml and resume it\."

    assert code == 2
    assert re.fullmatch(rf"steadyrl: At step \d, .* is not finite\..* {remedy}\n", err)


def test_an_interruption_says_how_to_go_on(
    steadyrl: Steady, demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("steadyrl.cli.report.write_report", interrupted)
    code, _, err = steadyrl("report", str(demo))

    assert code == 130
    assert "Go on with: steadyrl train --resume RUN" in err


def test_yaml_of_every_recipe_is_plain_yaml(steadyrl: Steady) -> None:
    for name, recipe in RECIPES.items():
        _, out, _ = steadyrl("recipes", name)
        assert yaml.safe_load(out) == yaml.safe_load(to_yaml(recipe()))
