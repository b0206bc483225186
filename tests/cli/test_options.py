"""Options as a user types them."""

import math
from pathlib import Path
from typing import Annotated, Literal

import pytest

from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.algorithms.memory import NoMemory, Retrieval
from steadyrl.base.errors import UserError
from steadyrl.base.settings import Settings
from steadyrl.cli.option_names import Positional, option_names
from steadyrl.cli.options import read_options
from steadyrl.cli.train import TrainOptions, described
from steadyrl.environments.custom import CustomSettings
from steadyrl.environments.hotpot_qa import HotpotQASettings
from steadyrl.environments.hotpot_questions import FileQuestions
from steadyrl.environments.reasoning_gym_tasks import ReasoningGymSettings
from steadyrl.environments.retriever_bm25 import BM25Settings
from steadyrl.lab.worlds.second_chance import SecondChanceSettings
from steadyrl.lab.worlds.synthetic_questions import SyntheticQuestions
from steadyrl.objectives import CISPO, DPPO, GRPO, GSPO, Masking, MiniRL, Truncation
from steadyrl.policies.model_settings import Pretrained, SmallDense
from steadyrl.recipes import RECIPES, find_recipe, recipe_names
from steadyrl.run.config import RunConfig, to_yaml
from steadyrl.run.placement.settings import RayPlacement
from steadyrl.training.trackers import (
    JsonlSettings,
    MlflowSettings,
    TensorBoardSettings,
    WandbSettings,
)


def configured(*options: str) -> RunConfig:
    return described(list(options))[0]


def test_a_name_brings_another_kind_with_its_own_defaults_and_what_is_given_for_it() -> None:
    erl = configured("erl-frozenlake-tiny", "--algorithm.memory", "none").algorithm
    assert erl is not None
    assert erl.memory == NoMemory()
    retrieval = ["--algorithm.memory=retrieval", "--algorithm.memory.capacity", "7"]
    erl = configured("erl-frozenlake-tiny", *retrieval).algorithm
    assert erl is not None
    assert erl.memory == Retrieval(capacity=7)
    grpo = ["--algorithm.objective", "grpo", "--algorithm.objective.clip-high=.4"]
    assert configured("demo", *grpo).algorithm.objective == GRPO(clip_high=0.4)


def test_a_kind_may_need_what_is_given_with_it() -> None:
    gym = ["--environment", "reasoning_gym", "--environment.dataset", "gcd"]
    config = configured("demo", "--cold-start", "none", *gym, "--environment.seed", "3")
    assert config.environment == ReasoningGymSettings(dataset="gcd", seed=3)
    assert config.cold_start is None


def test_a_kind_may_be_chosen_within_another_that_is_chosen() -> None:
    people = ["--environment.questions", "synthetic", "--environment.questions.people", "100"]
    hotpot = ["--environment", "hotpot_qa", "--environment.retriever.k1=2"]
    for options in ([*hotpot, *people], [*people, *hotpot]):
        environment = configured("minirl", "--model", "org/model", *options).environment
        assert environment == HotpotQASettings(
            questions=SyntheticQuestions(people=100), retriever=BM25Settings(k1=2.0)
        )


def test_what_a_kind_within_needs_is_read_as_what_it_is() -> None:
    files = ["--environment.questions", "file", "--environment.questions.train", "a.json"]
    silent = ["--environment.instruction", "None", "--environment.questions.test", "None"]
    options = ["--environment", "hotpot_qa", *files, *silent]
    environment = configured("minirl", "--model", "org/model", *options).environment
    assert environment == HotpotQASettings(questions=FileQuestions(train=Path("a.json")))


@pytest.mark.parametrize("text", ['{"digits": 4, "names": ["a"]}', "{digits: 4, names: [a]}"])
def test_mappings_are_written_in_one_line_of_json_or_yaml(text: str) -> None:
    options = ["--environment", "tests.rollout.fakes:Quiz"]
    custom = configured("minirl", "--model", "org/m", *options, "--environment.options", text)
    assert custom.environment == CustomSettings(
        name="tests.rollout.fakes:Quiz", options={"digits": 4, "names": ["a"]}
    )
    gym = configured("minirl", "--model", "org/m", f"--environment.knobs={text}").environment
    assert isinstance(gym, ReasoningGymSettings)
    assert gym.knobs == {"digits": 4, "names": ["a"]}


@pytest.mark.parametrize("text", ["digits", "{digits: ["])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"--environment\.knobs is .* not read as names and values"):
        configured("minirl", "--model", "org/model", "--environment.knobs", text)


def test_the_kind_that_is_there_already_keeps_its_settings() -> None:
    named = configured("demo", "--environment", "arithmetic", "--environment.operands", "3")
    plain = configured("demo", "--environment.operands", "3")
    assert named == plain
    assert configured("demo") == RECIPES["demo"]()


def test_a_block_can_be_left_out() -> None:
    for options in (["--cold-start", "none"], ["--cold-start=None"]):
        config = configured("demo", *options, "--steps", "7")
        assert (config.cold_start, config.steps) == (None, 7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--environment", "hotpot_qa", "--environment.questions", "chess"],
            r"--environment\.questions: unknown name, got 'chess'. Known names: .*synthetic",
        ),
        (["--environment", "chess"], "unknown name, got 'chess'. Known names: arithmetic"),
        (
            ["--environment", "reasoning_gym"],
            r"environment\.dataset: required .* --environment\.dataset",
        ),
        (
            ["--optimizer", "none"],
            "--optimizer is a block of settings, got 'none'. Set one of them",
        ),
    ],
)
def test_what_is_no_kind_is_refused(options: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        configured("demo", "--cold-start", "none", *options)


def test_a_checkpoint_is_not_taught_from_nothing() -> None:
    with pytest.raises(UserError, match=r"begins with 800 steps .* add --cold-start none, or take"):
        configured("demo", "--model", "org/model")
    config = configured("demo", "--model", "org/model", "--cold-start", "none")
    assert config.model == Pretrained(path="org/model")


def test_a_checkpoint_may_be_called_like_a_small_model() -> None:
    changes = ["--cold-start", "none", "--model", "pretrained", "--model.path", "small-moe"]
    assert configured("demo", *changes).model == Pretrained(path="small-moe")


def test_kinds_are_chosen_on_top_of_an_algorithm() -> None:
    options = ["--published", "gspo", "--algorithm.correction", "truncation"]
    credit = configured("demo", *options).algorithm
    assert (credit.objective, credit.correction) == (GSPO(), Truncation())
    other = ["--published", "grpo", "--algorithm.objective", "gspo"]
    credit = configured("demo", *other).algorithm
    assert (credit.objective, credit.advantage) == (GSPO(), "group_mean_std")


def test_an_algorithm_may_need_a_kind_that_is_chosen_on_top(tmp_path: Path) -> None:
    """GRPO does not read the ratio to the engine, which overlap wants corrected."""
    recipe = configured("demo", "--engine.overlap", "true")
    (tmp_path / "ahead.yaml").write_text(to_yaml(recipe))
    words = [str(tmp_path / "ahead.yaml"), "--published", "grpo"]
    with pytest.raises(UserError, match=r"engine\.overlap is true, but .* 'grpo'"):
        configured(*words)
    credit = configured(*words, "--algorithm.correction", "masking").algorithm
    assert (credit.objective, credit.correction) == (GRPO(), Masking())


@pytest.mark.parametrize(("word", "value"), [("true", True), ("True", True), ("false", False)])
def test_truth_is_written_as_in_yaml_or_python(word: str, value: bool) -> None:
    assert configured("demo", "--engine.overlap", word).engine.overlap is value


def test_trackers_are_named_one_after_the_other_or_with_their_settings() -> None:
    assert configured("demo").trackers == (JsonlSettings(), TensorBoardSettings())
    named = configured("demo", "--trackers", "wandb", "tensorboard", "--steps", "3")
    assert named.trackers == (JsonlSettings(), WandbSettings(), TensorBoardSettings())
    assert named.steps == 3
    chosen = configured("demo", "--trackers", "jsonl", "{name: mlflow, experiment: words}")
    assert chosen.trackers == (JsonlSettings(), MlflowSettings(experiment="words"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["wanbd"], r"trackers\.0\.name: unknown name, got 'wanbd'\. Did you mean 'wandb'\?"),
        (
            ["jsonl", "{name: wandb, projekt: x}"],
            r"trackers\.1\.projekt: unknown setting, got 'x'\. Did you mean 'project'\?",
        ),
        (["{name: wandb, mode: of}"], r"trackers\.0\.mode: got 'of', expected: online, offline"),
        (["wandb", "jsonl", "wandb"], r"trackers: 'wandb' is named twice\. Name each tracker once"),
    ],
)
def test_trackers_that_there_are_not_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        configured("demo", "--trackers", *words)


def test_a_switch_needs_no_word_and_takes_no_other() -> None:
    assert configured("demo", "--engine.overlap", "--steps", "3").engine.overlap is True
    with pytest.raises(UserError, match=r"'yes' belongs to no option\. .* take true or false"):
        configured("demo", "--engine.overlap", "yes")


def test_numbers_are_read_as_in_yaml_and_texts_as_they_are() -> None:
    words = (
        "--algorithm.objective.clip-high=.inf --optimizer.learning_rate=1e-6 "
        "--engine.max-running auto --threads none --optimizer.betas 0.8 0.9 "
        "--environment reasoning_gym --environment.dataset 123 --cold-start none"
    )
    config = configured("demo", *words.split())
    assert config.algorithm.objective == MiniRL(clip_high=math.inf)
    assert config.optimizer.learning_rate == 1e-6
    assert (config.engine.max_running, config.threads) == ("auto", None)
    assert config.optimizer.betas == (0.8, 0.9)
    assert config.environment == ReasoningGymSettings(dataset="123")
    assert configured("demo", "--optimizer.betas", "[0.8, 0.9]").optimizer.betas == (0.8, 0.9)


def test_another_variant_begins_with_its_own_defaults_whatever_the_order() -> None:
    changes = ["--algorithm.objective", "dppo", "--algorithm.objective.threshold", "0.05"]
    for options in (changes, changes[2:] + changes[:2]):
        assert configured("demo", *options).algorithm.objective == DPPO(threshold=0.05)
    named = ["--algorithm.objective.clip-low", ".1", "--algorithm.objective=minirl"]
    assert configured("demo", *named).algorithm.objective == MiniRL(clip_low=0.1)
    erl = configured("demo", "--algorithm", "erl", "--algorithm.prompts", "3").algorithm
    assert erl == ExperientialSettings(prompts=3)


def test_a_variant_may_be_chosen_by_the_name_in_its_block() -> None:
    options = ["--placement.address", "local:2", "--placement.name", "ray"]
    assert configured("demo", *options).placement == RayPlacement(address="local:2")


def test_of_the_same_option_twice_the_last_counts() -> None:
    assert configured("demo", "--steps", "3", "--steps=4").steps == 4
    objective = ["--algorithm.objective", "grpo", "--algorithm.objective", "cispo"]
    assert configured("demo", *objective).algorithm.objective == CISPO()


def test_a_variant_of_another_package_is_chosen_by_its_name() -> None:
    control = configured("demo", "--algorithm", "second_chance", "--algorithm.threshold", "0.5")
    assert control.algorithm == SecondChanceSettings(threshold=0.5)
    named = "steadyrl.lab.worlds.second_chance:SecondChanceSettings"
    assert configured("demo", "--algorithm", named).algorithm == SecondChanceSettings()


def test_a_model_is_named_or_a_checkpoint() -> None:
    assert configured("demo", "--model", "small_dense").model == SmallDense()
    assert configured("minirl", "--model", "org/other").model == Pretrained(path="org/other")
    with pytest.raises(UserError, match=r"--model: unknown name, got 'small_mo'\. Did you mean"):
        configured("demo", "--model", "small_mo")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--stepz", "no option --stepz. Did you mean --steps? --help shows all."),
        ("--learning-rte", "no option --learning-rte. Did you mean --optimizer.learning-rate?"),
        ("--algorithm.groupsize", "Did you mean --algorithm.group-size?"),
        ("--algorithm.objectiv.clip-low", "Did you mean --algorithm.objective.clip-low?"),
        ("--sampling.name", "--sampling.name is a block of settings, got '3'. Set one of them"),
        ("--algorithm.objective.zz", "Options there are --algorithm.objective.clip-low,"),
        ("--zz", "no option --zz. Options there are --seed, --threads, --model, --environment,"),
        ("--optimizer", "--optimizer is a block of settings, got '3'. Set one of them, such as"),
        ("--algorithm.learning-rate", "Did you mean --optimizer.learning-rate?"),
        ("--learner.ranks", "option --learner.ranks here. Use it with --learner fsdp, or leave it"),
        ("--placement.engines", "Use it with --placement ray, or leave it out."),
        ("--steps.more", "no option --steps.more. Did you mean --steps?"),
    ],
)
def test_an_unknown_option_is_answered_with_what_there_is(option: str, message: str) -> None:
    with pytest.raises(UserError) as refusal:
        configured("demo", option, "3")
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps"], "--steps needs a value: whole number, at least 0."),
        (["--algorithm.objective"], "--algorithm.objective needs a value: minirl, grpo, cispo"),
        (["--cold-start"], "--cold-start needs a value: none."),
        (["--seed", "1", "2"], "'2' belongs to no option."),
        (["--published", "ppo"], "published: got 'ppo', expected: minirl, grpo, "),
    ],
)
def test_words_that_are_missing_or_left_over_are_named(words: list[str], message: str) -> None:
    with pytest.raises(UserError) as refusal:
        configured("demo", *words)
    assert message in str(refusal.value)


def test_every_option_of_every_recipe_is_shown_by_its_help_in_80_columns(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in recipe_names():
        with pytest.raises(SystemExit):
            configured(name, "--help")
        lines = capsys.readouterr().out.splitlines()
        shown = {line.split()[0].removeprefix("--") for line in lines if line.startswith("  --")}
        expected = set(option_names(RunConfig, find_recipe(name)().model_dump()))
        assert shown == expected | set(option_names(TrainOptions, {})), name
        assert max(map(len, lines)) <= 80, name


def test_help_shows_the_variants_that_are_named_beside_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        configured("demo", "--algorithm.objective", "dppo", "--environment", "math", "--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "algorithm.objective: dppo --algorithm.objective minirl, grpo, " in text
    assert "--algorithm.objective.threshold number, above 0 (0.15)" in text
    assert "--algorithm.objective.clip-low" not in text
    assert "--environment.path path (required) JSON Lines file" in text


class Work(Settings):
    """What a command does.

    And more of it.
    """

    tools: Annotated[tuple[Path, ...], Positional()]
    """Tools to take."""

    from_: str | None = None
    """Where they lie."""

    quick: bool = False
    """In a hurry."""

    sizes: tuple[int, ...] = ()

    level: Literal["low", "high"] = "low"


def work(*words: str) -> Work:
    return read_options(Work, words, program="steadyrl work")


def test_options_of_a_command_are_settings_too() -> None:
    assert work("saw", "axe") == Work(tools=(Path("saw"), Path("axe")))
    given = work("--quick", "saw", "--from", "there", "--sizes", "1", "2", "--level=high")
    assert given == Work(
        tools=(Path("saw"),), from_="there", quick=True, sizes=(1, 2), level="high"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "'steadyrl work' needs TOOLS. See steadyrl work --help."),
        (["saw", "--level", "top"], "level: got 'top', expected: low, high. See "),
        (["saw", "--quik"], "There is no option --quik. Did you mean --quick?"),
    ],
)
def test_what_a_command_cannot_use_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(UserError) as refusal:
        work(*words)
    assert message in str(refusal.value)


def test_help_of_a_command_is_made_of_its_settings(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        work("--help")
    out = capsys.readouterr().out
    assert out.startswith("usage: steadyrl work TOOLS ... [options]\n\nWhat a command does.\n")
    assert "  TOOLS\n        Tools to take.\n" in out
    assert "  --from  text, none (none)\n        Where they lie.\n" in out
    assert "  --sizes  list of whole number ([])\n  --level  low, high (low)\n" in out
