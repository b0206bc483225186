import operator
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from steadyrl.base.isolation import Isolated
from steadyrl.environments import Split
from steadyrl.environments.protocol import Episode
from steadyrl.environments.reasoning_gym_tasks import ORDERED_BY_HASH
from steadyrl.records.message import Message
from steadyrl.records.trajectory import Group, Trajectory
from tests.driving import respond

PAGE = (Path(__file__).parents[2] / "docs" / "environments.md").read_text(encoding="utf-8")


@pytest.fixture
def example() -> dict[str, Any]:
    """What the page's example defines."""
    return defined_by(0)


def defined_by(number: int) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[number], names)
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
        episode = defined_by(1)["Answer"](judge, "4")
        assert isinstance(episode, Episode)
        assert [respond(episode, text).reward for text in ("5", "4")] == [0.0, 1.0]


def test_the_example_of_a_score_of_groups_pays_the_shortest_right_answer():
    scores = defined_by(2)["ShortestWins"]()
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
