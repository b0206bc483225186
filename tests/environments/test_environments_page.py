import operator
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steadyrl.base.isolation import Isolated
from steadyrl.base.variants import variants_of
from steadyrl.environments import DatasetSettings, Split
from steadyrl.environments.protocol import Episode
from steadyrl.environments.reasoning_gym_tasks import ORDERED_BY_HASH
from steadyrl.records.message import Message
from steadyrl.records.trajectory import Group, Trajectory
from tests.driving import respond

PAGE = (Path(__file__).parents[2] / "docs" / "environments.md").read_text(encoding="utf-8")


@pytest.fixture
def example() -> dict[str, Any]:
    """What the page's example defines."""
    return defined_beside("class Reverse:")


def defined_beside(line: str, before: str = "class Reverse:") -> dict[str, Any]:
    """What the page's example with this line defines, in the module of an example before it."""
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (block,) = [block for block in blocks if line in block]
    (first,) = [block for block in blocks if before in block]
    exec(first, names)
    exec(block, names)
    return names


def test_the_example_is_a_working_environment(example: dict[str, Any]):
    environment = example["Reverse"]()
    for split in Split:
        task = environment.task(split, 3)
        assert task == environment.task(split, 3)
        word = task.prompt[0].content.removeprefix("reverse ")
        assert environment.start(task).respond(word[::-1]).reward == 1.0
        assert environment.start(task).respond(word[::-1] + "0").reward == 0.0


def test_the_splits_of_the_example_are_disjoint(example: dict[str, Any]):
    environment = example["Reverse"]()
    asked = {split: {environment.task(split, i).id for i in range(200)} for split in Split}
    assert asked[Split.TRAIN].isdisjoint(asked[Split.VALIDATION] | asked[Split.TEST])
    assert asked[Split.VALIDATION].isdisjoint(asked[Split.TEST])


def test_the_example_of_a_reward_function_prefers_short_right_answers():
    brevity = defined_beside("def brevity(")["brevity"]
    texts, rights = ["seven", "it is 7", "7"], ["7", "7", "7"]
    assert brevity(completions=texts, answer=rights, level=[1, 1, 1]) == [None, 1 / 3, 1.0]


def test_the_rewards_of_the_page_are_those_that_there_are():
    table = PAGE.partition("| `name` | value | settings |")[2].partition("\n\n")[0]
    field = DatasetSettings.model_fields["rewards"]
    assert re.findall(r"^\| `([a-z_]+)` \|", table, re.MULTILINE) == variants_of(field).names()


def test_the_page_lists_the_datasets_that_need_a_hash_seed():
    assert all(f"`{dataset}`" in PAGE for dataset in ORDERED_BY_HASH)


def test_environments_load_neither_torch_nor_optional_packages():
    code = (
        "import sys, steadyrl.environments as _; "
        "names = ('torch', 'sympy', 'math_verify', 'reasoning_gym', 'bm25s', 'datasets'); "
        "print([name for name in names if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_example_of_an_episode_whose_judge_is_awaited_is_one():
    judge = Isolated(partial(partial, operator.eq), timeout=60.0)
    with judge:
        episode = defined_beside("class Answer:")["Answer"](judge, "4")
        assert isinstance(episode, Episode)
        assert [respond(episode, text).reward for text in ("5", "4")] == [0.0, 1.0]


def test_the_example_for_a_small_model_pays_the_share_of_digits():
    environment = defined_beside("class Digits(")["Digits"]()
    episode = environment.start(environment.task(Split.TRAIN, 0))
    assert [episode.respond(text).reward for text in ("12", "1a", "", "x")] == [1.0, 0.5, 0.0, 0.0]


def test_the_plain_example_of_several_turns_is_short_and_hints():
    (block,) = re.findall(r"```python\n((?:(?!```).)*class GuessDigit:.*?)```", PAGE, re.DOTALL)
    assert len(block.splitlines()) <= 30
    environment = defined_beside("class GuessDigit:")["GuessDigit"]()
    tasks = (environment.task(Split.TEST, index) for index in range(100))
    task = next(task for task in tasks if task.payload == 4)
    episode = environment.start(task)
    low, high, right = (respond(episode, text) for text in ("3", "5", "4"))
    assert [message.content for message in low.observation + high.observation] == ["low", "high"]
    assert [each.terminated for each in (low, high, right)] == [False, False, True]
    assert [each.reward for each in (low, high, right)] == [0.0, 0.0, 1.0]
    assert right.observation == ()
    episode = environment.start(task)
    wrong = [respond(episode, text) for text in ("", "44", "\N{SUPERSCRIPT TWO}")]
    assert [(each.reward, each.terminated) for each in wrong] == [(0, False), (0, False), (0, True)]


def test_the_teacher_of_the_page_follows_the_hints():
    names = defined_beside("class GuessTeacherSettings(", "class GuessDigit:")
    environment = names["GuessDigit"]()
    teacher = names["GuessTeacherSettings"]().make(environment)
    generator, found = np.random.default_rng(0), 0
    for index in range(50):
        task = environment.task(Split.TRAIN, index)
        shown = teacher.demonstrate(task, generator).continuation
        guesses = [int(message.content) for message in shown if message.role == "assistant"]
        for before, hint in zip(guesses, shown[1::2], strict=False):
            later = guesses[guesses.index(before) + 1 :]
            assert all((each > before) == (hint.content == "low") for each in later)
        found += guesses[-1] == task.payload
    assert 10 <= found <= 45


def test_the_example_of_several_turns_is_won_by_halving():
    environment = defined_beside("class GuessNumber:")["GuessNumber"]()
    tasks = [environment.task(Split.TRAIN, index) for index in range(100)]
    won = 0
    for task in tasks:
        low, high, outcome = 0, 99, None
        episode = environment.start(task)
        while outcome is None or not outcome.terminated:
            guess = (low + high) // 2
            outcome = respond(episode, str(guess))
            assert bool(outcome.observation) != outcome.terminated
            if outcome.feedback == "too low":
                low = guess + 1
            elif outcome.feedback == "too high":
                high = guess - 1
        won += outcome.reward == 1.0
        assert outcome.reward == float(guess == task.payload)
    # Halving finds 1 + 2 + 4 + 8 + 16 = 31 of 100 numbers in five guesses.
    assert 15 <= won <= 50
    assert respond(environment.start(tasks[0]), "\N{SUPERSCRIPT TWO}").feedback == "give a number"


def test_the_example_of_a_score_of_groups_pays_the_shortest_right_answer():
    scores = defined_beside("class ShortestWins(")["ShortestWins"]()
    rewards, answers = (1.0, 1.0), ("12345", "123")
    group = Group(
        task_id="t",
        trajectories=tuple(
            Trajectory(
                task_id="t",
                messages=(Message(role="assistant", content=answer),),
                completions=(),
                reward=reward,
                terminated=True,
                truncated=False,
            )
            for reward, answer in zip(rewards, answers, strict=True)
        ),
    )
    assert scores.score_group(group) == [0.0, 1.0]
