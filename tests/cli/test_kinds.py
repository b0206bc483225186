"""Options that choose kinds of blocks, as a user types them."""

import re
from pathlib import Path

import pytest

from steadyrl.algorithms.memory import NoMemory, Retrieval
from steadyrl.base.errors import UserError
from steadyrl.cli.train import described
from steadyrl.environments.custom import CustomSettings
from steadyrl.environments.hotpot_qa import HotpotQASettings
from steadyrl.environments.hotpot_questions import FileQuestions
from steadyrl.environments.reasoning_gym_tasks import ReasoningGymSettings
from steadyrl.environments.retriever_bm25 import BM25Settings
from steadyrl.lab.worlds.synthetic_questions import SyntheticQuestions
from steadyrl.objectives import GRPO, GSPO, Masking, Truncation
from steadyrl.policies.loading import Pretrained
from steadyrl.recipes import RECIPES
from steadyrl.run.config import RunConfig, to_yaml
from steadyrl.training.trackers import (
    JsonlSettings,
    MlflowSettings,
    TensorBoardSettings,
    WandbSettings,
)


def configured(*options: str) -> RunConfig:
    return described(list(options))[0]


def test_a_name_brings_another_kind_with_its_own_defaults_and_what_is_given_for_it() -> None:
    erl = configured("erl-frozenlake-tiny", "--algorithm.memory.name", "none").algorithm
    assert erl is not None
    assert erl.memory == NoMemory()
    retrieval = ["--algorithm.memory.name=retrieval", "--algorithm.memory.capacity", "7"]
    erl = configured("erl-frozenlake-tiny", *retrieval).algorithm
    assert erl is not None
    assert erl.memory == Retrieval(capacity=7)
    grpo = ["--algorithm.objective.name", "grpo", "--algorithm.objective.clip-high=.4"]
    assert configured("demo", *grpo).algorithm.objective == GRPO(clip_high=0.4)


def test_a_kind_may_need_what_is_given_with_it() -> None:
    gym = ["--environment.name", "reasoning_gym", "--environment.dataset", "gcd"]
    config = configured("demo", "--cold-start", "none", *gym, "--environment.seed", "3")
    assert config.environment == ReasoningGymSettings(dataset="gcd", seed=3)
    assert config.cold_start is None


def test_a_kind_may_be_chosen_within_another_that_is_chosen() -> None:
    people = ["--environment.questions.name", "synthetic", "--environment.questions.people", "100"]
    hotpot = ["--environment.name", "hotpot_qa", "--environment.retriever.k1=2"]
    for options in ([*hotpot, *people], [*people, *hotpot]):
        environment = configured("minirl", "--model", "org/model", *options).environment
        assert environment == HotpotQASettings(
            questions=SyntheticQuestions(people=100), retriever=BM25Settings(k1=2.0)
        )


def test_what_a_kind_within_needs_is_read_as_what_it_is() -> None:
    files = ["--environment.questions.name", "file", "--environment.questions.train", "a.json"]
    silent = ["--environment.instruction", "None", "--environment.questions.test", "None"]
    options = ["--environment.name", "hotpot_qa", *files, *silent]
    environment = configured("minirl", "--model", "org/model", *options).environment
    assert environment == HotpotQASettings(questions=FileQuestions(train=Path("a.json")))


@pytest.mark.parametrize("text", ['{"digits": 4, "names": ["a"]}', "{digits: 4, names: [a]}"])
def test_mappings_are_written_in_one_line_of_json_or_yaml(text: str) -> None:
    options = ["--environment.name", "tests.rollout.fakes:Quiz"]
    custom = configured("minirl", "--model", "org/m", *options, "--environment.options", text)
    assert custom.environment == CustomSettings(
        name="tests.rollout.fakes:Quiz", options={"digits": 4, "names": ["a"]}
    )
    gym = configured("minirl", "--model", "org/m", f"--environment.knobs={text}").environment
    assert isinstance(gym, ReasoningGymSettings)
    assert gym.knobs == {"digits": 4, "names": ["a"]}


@pytest.mark.parametrize(
    ("text", "message"), [("digits", "holds no names"), ("{digits: [", "is neither YAML nor JSON")]
)
def test_what_is_no_mapping_is_refused(
    capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    with pytest.raises(SystemExit):
        configured("minirl", "--model", "org/model", "--environment.knobs", text)
    told = re.sub(r"[\s│]+", " ", capsys.readouterr().err)
    assert f"--environment.knobs: {text!r} {message}. Write names and values in braces" in told


def test_help_shows_how_mappings_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        configured("minirl", "--help")
    assert "--environment.knobs {NAME: VALUE, ...}" in capsys.readouterr().out


def test_the_kind_that_is_there_already_keeps_its_settings() -> None:
    named = configured("demo", "--environment.name", "arithmetic", "--environment.operands", "3")
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
            ["--environment.name", "hotpot_qa", "--environment.questions.name", "chess"],
            r"environment\.questions\.name: unknown name, got 'chess'. Known names: .*synthetic",
        ),
        (["--environment.name", "chess"], "unknown name, got 'chess'. Known names: arithmetic"),
        (
            ["--environment.name", "reasoning_gym"],
            r"environment\.dataset: required .* --environment\.dataset",
        ),
        (["--optimizer", "none"], "optimizer: Input should be .* dictionary"),
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


@pytest.mark.parametrize("other", [("name", "small_dense"), ("path", "org/other")])
def test_a_checkpoint_is_not_exchanged_for_another_model_in_silence(
    other: tuple[str, str],
) -> None:
    key, model = other
    changes = ["--checkpoint", "org/model", "--cold-start", "none", f"--model.{key}", model]
    with pytest.raises(UserError, match=rf"is org/model, but another option makes {model} the"):
        configured("demo", *changes)


def test_kinds_are_chosen_on_top_of_an_algorithm() -> None:
    options = ["--published", "gspo", "--algorithm.correction.name", "truncation"]
    credit = configured("demo", *options).algorithm
    assert (credit.objective, credit.correction) == (GSPO(), Truncation())
    other = ["--published", "grpo", "--algorithm.objective.name", "gspo"]
    credit = configured("demo", *other).algorithm
    assert (credit.objective, credit.advantage) == (GSPO(), "group_mean_std")


def test_an_algorithm_may_need_a_kind_that_is_chosen_on_top(tmp_path: Path) -> None:
    """GRPO does not read the ratio to the engine, which overlap wants corrected."""
    recipe = configured("demo", "--engine.overlap", "true")
    (tmp_path / "ahead.yaml").write_text(to_yaml(recipe))
    words = [str(tmp_path / "ahead.yaml"), "--published", "grpo"]
    with pytest.raises(UserError, match=r"engine\.overlap is true, but .* 'grpo'"):
        configured(*words)
    credit = configured(*words, "--algorithm.correction.name", "masking").algorithm
    assert (credit.objective, credit.correction) == (GRPO(), Masking())


@pytest.mark.parametrize(("word", "value"), [("true", True), ("True", True), ("false", False)])
def test_truth_is_written_as_in_yaml_or_python(word: str, value: bool) -> None:
    assert configured("demo", "--engine.overlap", word).engine.overlap is value


def test_other_words_are_no_truth(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        configured("demo", "--engine.overlap", "yes")
    told = re.sub(r"[\s│]+", " ", capsys.readouterr().err)
    assert "--engine.overlap: 'yes' is neither true nor false. Give one of them." in told


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
        (["{name: wandb, mode: of}"], r"trackers\.0\.mode: Input should be 'online' or 'offline'"),
        (["wandb", "jsonl", "wandb"], r"trackers: 'wandb' is named twice\. Name each tracker once"),
    ],
)
def test_trackers_that_there_are_not_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        configured("demo", "--trackers", *words)
