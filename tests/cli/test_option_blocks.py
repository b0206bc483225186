"""Blocks of settings in one line of the command line."""

import pytest

from steadyrl.base.errors import UserError
from steadyrl.cli.train import described
from steadyrl.environments.dataset import DatasetSettings
from steadyrl.environments.dataset.examples import Columns
from steadyrl.environments.dataset.math_reward import MathReward
from steadyrl.environments.dataset.text_rewards import ExactReward, LengthReward
from steadyrl.objectives import GRPO, MiniRL
from steadyrl.run.config import RunConfig

DATA = ["minirl", "--model", "org/m", "--environment", "dataset", "--environment.path", "a.csv"]


def configured(*options: str) -> RunConfig:
    return described(list(options))[0]


def data(*options: str) -> DatasetSettings:
    environment = configured(*DATA, *options).environment
    assert isinstance(environment, DatasetSettings)
    return environment


@pytest.mark.parametrize(
    "columns",
    [
        ["--environment.columns", "{prompt: frage, answer: l}"],
        ['--environment.columns={"prompt": "frage"}', "--environment.columns.answer", "l"],
        ["--environment.columns.prompt", "frage", "--environment.columns.answer=l"],
    ],
)
def test_a_block_is_written_in_one_line_or_setting_by_setting(columns: list[str]) -> None:
    settings = data(*columns, "--environment.rewards", "math")
    assert settings.columns == Columns(prompt="frage", answer="l")
    assert settings.rewards == (MathReward(),)


@pytest.mark.parametrize(
    "words",
    [
        ["exact", "{name: length, max_length: 3, weight: .5}"],
        ["[exact, {name: length, max_length: 3, weight: .5}]"],
    ],
)
def test_rewards_are_words_or_a_list_in_one_line(words: list[str]) -> None:
    settings = data("--environment.rewards", *words)
    assert settings.rewards == (ExactReward(), LengthReward(max_length=3, weight=0.5))


def test_a_block_in_one_line_may_name_its_variant() -> None:
    objective = "--algorithm.objective"
    assert configured("demo", objective, "{name: grpo, clip_low: .4}").algorithm.objective == GRPO(
        clip_low=0.4
    )
    kept = configured("demo", objective, "{clip_low: .4}", f"{objective}.clip-high", ".5")
    assert kept.algorithm.objective == MiniRL(clip_low=0.4, clip_high=0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--environment.columns", "{prompt: ["],
            r"columns is '\{prompt: \[', which YAML does not",
        ),
        (
            ["--environment.columns", "frage"],
            r"is a block of settings, got 'frage'.*'\{prompt: VALUE",
        ),
        (["--environment.columns", "{frage: prompt}"], r"environment\.columns\.frage: unknown"),
        (["--environment.rewards", "maths"], r"unknown name, got 'maths'\. Did you mean 'math'\?"),
        ([], r"environment\.rewards: required"),
    ],
)
def test_what_cannot_be_read_is_refused(options: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        configured(*DATA, *options)
