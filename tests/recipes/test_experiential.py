"""Recipes for real models have the paper's settings, and run on a model of the same chat form."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from steadyrl.algorithms.reflection import ServerReflection
from steadyrl.cli.train import described, train_command
from steadyrl.environments.protocol import Split
from steadyrl.lab.worlds.synthetic_questions import SyntheticQuestions
from steadyrl.objectives import Aggregation, DualClip, ReferenceKL
from steadyrl.policies.loading import load_tokenizer
from steadyrl.policies.model_settings import Pretrained
from steadyrl.policies.tokenizers import encode_prompts
from steadyrl.recipes import RECIPES
from steadyrl.records.run_folder import RunFolder
from steadyrl.run.config import RunConfig, to_yaml
from tests.engines.server import chat_server, says
from tests.recipes.chat_checkpoint import write_chat_checkpoint

NAMES = ["erl-frozenlake", "erl-sokoban", "erl-hotpotqa"]

SMALL = {
    "steps": 1,
    "threads": 1,
    "algorithm.prompts": 1,
    "algorithm.group-size": 2,
    "algorithm.max-turns": 2,
    "algorithm.reflection.sampling.max-new-tokens": 4,
    "sampling.max-new-tokens": 3,
    "evaluation.tasks": 1,
    "evaluation.samples": 1,
    "learner.device": "cpu",
}
"""What makes a step small. Everything else is as the recipe says."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chat_checkpoint(tmp_path_factory.mktemp("model"))


def offline(name: str) -> RunConfig:
    """The recipe; with questions made up, since a data set cannot be had here."""
    config = RECIPES[name]()
    if name != "erl-hotpotqa":
        shorter = config.environment.model_copy(update={"moves": 2, "max_path": 2})
        return config.model_copy(update={"environment": shorter})
    questions = SyntheticQuestions(people=60)
    environment = config.environment.model_copy(update={"questions": questions, "turns": 2})
    return config.model_copy(update={"environment": environment})


def trained(name: str, checkpoint: Path, folder: Path, **changes: Any) -> RunFolder:
    """One step of the recipe on the tiny model, by the command line."""
    recipe = folder / f"{name}.yaml"
    recipe.write_text(to_yaml(offline(name).model_copy(update=changes)))
    options = {**SMALL, "model": str(checkpoint), "out": str(folder / "run")}
    arguments = [word for option, value in options.items() for word in (f"--{option}", str(value))]
    train_command([str(recipe), *arguments], Console(file=io.StringIO()))
    return RunFolder(folder / "run")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_takes_a_step_on_a_model_that_is_given(
    name: str, checkpoint: Path, tmp_path: Path
) -> None:
    folder = trained(name, checkpoint, tmp_path)
    before, after = folder.read_metrics()

    assert (before["step"], after["step"]) == (0, 1)
    # A random model writes no rulebook: what fails is counted, and the run goes on.
    assert after["reward"] == 0
    assert after["failed_reflections"] == 2
    assert 1 <= after["reflection_length"] <= 4
    assert folder.report.exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["erl-frozenlake", "erl-hotpotqa"])
def test_under_a_rulebook_second_attempts_are_played_and_learned_from(
    name: str, checkpoint: Path, tmp_path: Path
) -> None:
    with chat_server(lambda *_: says("<prompt>Go <tool_call> right.</prompt>")) as (url, _):
        erl = RECIPES[name]().algorithm
        assert erl is not None
        server = ServerReflection(base_url=url, model="m", style=erl.reflection.style)
        options = {k: v for k, v in SMALL.items() if "reflection" not in k}
        recipe = offline(name).model_copy(
            update={"algorithm": erl.model_copy(update={"reflection": server})}
        )
        (tmp_path / "own.yaml").write_text(to_yaml(recipe))
        options |= {"model": str(checkpoint), "out": str(tmp_path / "run")}
        words = [word for option, value in options.items() for word in (f"--{option}", str(value))]
        train_command([str(tmp_path / "own.yaml"), *words], Console(file=io.StringIO()))
    row = RunFolder(tmp_path / "run").read_metrics()[-1]
    lines = (tmp_path / "run" / "completions").glob("rl-*.jsonl")
    assert row["failed_reflections"] == 0
    assert row["second_attempt_length"] > 0
    assert row["reference_kl"] == 0  # the only update runs at the reference
    assert list(lines) == []  # they are written every fifth step


@pytest.mark.parametrize("name", NAMES)
def test_prompts_have_the_form_of_the_model_s_template(name: str, checkpoint: Path) -> None:
    environment = offline(name).environment.make()
    tokenizer = load_tokenizer(Pretrained(path=str(checkpoint)))
    task = environment.task(Split.TRAIN, 0)
    (ids,) = encode_prompts(tokenizer, [task.prompt], [task.tools])
    text = tokenizer.decode(ids)

    assert text.startswith("<|im_start|>system\n" + task.prompt[0].content)
    assert text.endswith("<|im_end|>\n<|im_start|>assistant\n")
    assert text.count("<|im_start|>user\n") == 1
    assert ('"name": "local_search"' in text) == (name == "erl-hotpotqa")


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_those_of_the_paper(name: str) -> None:
    config = RECIPES[name]()
    erl = config.algorithm
    assert erl is not None
    # arXiv:2602.13949, appendix C, and the defaults of its scripts.
    assert (erl.prompts, erl.group_size, erl.mini_batches) == (64, 4, 1)
    assert erl.objective == DualClip(clip_low=0.2, clip_high=0.28, ratio_cap=3.0)
    assert erl.reference_kl == ReferenceKL(coefficient=0.001, estimator="k3")
    assert erl.aggregation is Aggregation.TOKEN_SUM
    assert erl.advantage == "group_mean_std"
    assert (config.sampling.temperature, config.sampling.top_p) == (0.7, 1.0)
    validation = config.evaluation.sampling(config.sampling)
    assert (validation.temperature, validation.top_p, validation.top_k) == (0.7, 0.8, 20)
    assert (erl.reflection.sampling.temperature, erl.reflection.sampling.top_p) == (0.5, 0.9)
    optimizer = config.optimizer
    assert (optimizer.learning_rate, optimizer.schedule, optimizer.warmup_steps) == (
        1e-6,
        "constant",
        0,
    )
    assert (optimizer.weight_decay, optimizer.gradient_clip) == (0.01, 1.0)
    assert (config.learner.dtype, config.evaluate_every) == ("bfloat16", 5)
    assert erl.max_turns == (5 if name == "erl-hotpotqa" else 8)
    assert erl.reflection.style == ("instructions" if name == "erl-hotpotqa" else "rulebook")


def test_a_checkpoint_takes_the_place_of_the_model() -> None:
    config, own = described(["erl-sokoban", "--model", "allenai/Olmo-3-7B-Instruct"])

    assert config.model == Pretrained(path="allenai/Olmo-3-7B-Instruct")
    assert own.out == Path("runs/erl-sokoban")
    assert described(["erl-sokoban"])[0] == RECIPES["erl-sokoban"]()
