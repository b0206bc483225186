"""Environments written for TRL's `environment_factory`, without TRL."""

import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steadyrl.base.errors import UserError
from steadyrl.environments.adapters.sessions import OtherObservationError
from steadyrl.environments.adapters.time_limits import SlowCallError
from steadyrl.environments.adapters.trl_environment import TRLSettings, seeded
from steadyrl.environments.protocol import Outcome, Split
from steadyrl.records.tool_calls import ToolSettings
from tests.driving import respond

HIDDEN = ToolSettings(shown="none", calls="json")


class Counter:
    """Counts to the target of the row."""

    def reset(self, target: int = 5, **row: Any) -> str | None:
        self.count, self.target = 0, int(target)
        return f" Count to {target}."

    def increment(self, step: int) -> int:
        """Adds to the counter.

        Args:
            step: What is added.
        """
        if step > 10:
            raise ValueError("too far")
        self.count += step
        return self.count

    async def peek(self) -> str:
        """Reads the counter."""
        return f"it is {self.count}"

    def sleep(self) -> None:
        """Takes long."""
        time.sleep(5)

    def get_reward(self) -> float:
        return float(self.count == self.target)

    def _secret(self) -> None:
        raise AssertionError


class Drawing(Counter):
    """Draws its own task."""

    def reset(self, **row: Any) -> str:  # type: ignore[override]
        self.count, self.target = 0, random.randrange(1000) + int(np.random.randint(1000))
        return f"Count to {self.target}."


class Board(Counter):
    """Plays on the very list that it is given."""

    def reset(self, board: list[int], **row: Any) -> str:  # type: ignore[override]
        self.count, self.target, self.board = 0, 0, board
        return f" {board}"

    def take(self) -> int:
        """Takes the last field."""
        return self.board.pop()


class Unrewarded:
    def reset(self, **row: Any) -> None:
        self.steps = 0

    def step(self) -> None:
        """Takes a step."""
        self.steps += 1


class Fickle(Counter):
    def reset(self, **row: Any) -> str:  # type: ignore[override]
        return f"{time.monotonic_ns()}"


def steps_taken(environments: list[Unrewarded], completions: Any, **columns: Any) -> list[float]:
    assert [len(each) for each in completions] == [2 * environments[0].steps + 1]
    return [0.5 * environment.steps for environment in environments]


def not_a_number(environments: list[Any], **columns: Any) -> list[float]:
    return [float("nan")]


def settings(name: str = "Counter", **changes: Any) -> TRLSettings:
    return TRLSettings(**{"factory": f"{__name__}:{name}", "tools": HIDDEN, **changes})


def call(name: str, **arguments: Any) -> str:
    return json.dumps({"name": name, "arguments": arguments})


@pytest.fixture
def rows(tmp_path: Path) -> str:
    path = tmp_path / "rows.jsonl"
    lines = [{"prompt": f"Task {n}.", "target": n, "answer": "none"} for n in range(40)]
    path.write_text("\n".join(map(json.dumps, lines)))
    return str(path)


def texts(outcome: Outcome) -> list[str]:
    assert all(message.role == "tool" for message in outcome.observation)
    return [message.content for message in outcome.observation]


def test_a_row_is_passed_to_reset_and_its_text_ends_the_prompt(rows: str) -> None:
    environment = settings(path=rows).make()
    task = environment.task(Split.TRAIN, 3)
    (prompt,) = task.prompt
    target = int(prompt.content.split()[-1][:-1])
    assert prompt.content == f"Task {target}. Count to {target}."
    assert environment.distinct_tasks(Split.TRAIN) > 20

    episode = environment.start(task)
    first = respond(episode, call("increment", step=target % 10))
    assert texts(first) == [str(target % 10)]
    assert (first.reward, first.terminated) == (0, False)
    for _ in range(target // 10):
        respond(episode, call("increment", step=10))
    assert respond(episode, "done") == Outcome(reward=1.0, terminated=True)
    assert respond(environment.start(task), "done").reward == float(target == 0)


def test_an_episode_may_change_its_row_and_the_next_one_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lines = [{"prompt": f"Task {n}.", "board": [1, 2], "answer": "none"} for n in range(9)]
    path.write_text("\n".join(map(json.dumps, lines)))
    environment = settings("Board", path=str(path)).make()
    task = environment.task(Split.TRAIN, 0)
    for _ in range(2):
        episode = environment.start(task)
        assert texts(respond(episode, call("take"))) == ["2"]
        assert texts(respond(episode, call("take"))) == ["1"]


def test_several_calls_are_answered_in_order_and_errors_are_told_as_in_trl() -> None:
    episode = settings().make().start(settings().make().task(Split.TRAIN, 0))
    two = f"[{call('increment', step=2)}, {call('peek')}]"
    assert texts(respond(episode, two)) == ["2", "it is 2"]
    assert texts(respond(episode, call("increment", step=11))) == ["{'error': 'too far'}"]
    assert texts(respond(episode, call("_secret"))) == ["{'error': 'Tool _secret not found.'}"]
    assert "unexpected keyword" in texts(respond(episode, call("peek", at=1)))[0]
    listed = '{"name": "peek", "arguments": [1]}'
    assert texts(respond(episode, listed)) == ["{'error': 'The arguments are not a JSON object.'}"]


def test_the_last_turn_calls_nothing_but_is_judged() -> None:
    environment = settings(turns=2).make()
    episode = environment.start(environment.task(Split.TRAIN, 0))
    respond(episode, call("increment", step=5))
    assert respond(episode, call("increment", step=1)) == Outcome(reward=1.0, terminated=True)


def test_tools_are_shown_as_the_settings_say() -> None:
    shown = settings(tools=ToolSettings()).make().task(Split.TRAIN, 0)
    names = [schema["function"]["name"] for schema in shown.tools]
    assert names == ["increment", "peek", "sleep"]
    assert shown.tools[0]["function"]["parameters"]["properties"] == {
        "step": {"type": "integer", "description": "What is added."}
    }
    listed = settings(tools=ToolSettings(shown="message"), system="Be brief.").make()
    first = listed.task(Split.TRAIN, 0).prompt[0]
    assert first.role == "system"
    assert first.content.startswith("Be brief.\n\nYou have access to these tools:")


def test_an_environment_that_draws_its_task_draws_the_same_for_the_same_number() -> None:
    environment = settings("Drawing").make()
    tasks = [environment.task(split, n).prompt[0].content for split in Split for n in range(9)]
    assert len(set(tasks)) > 20
    again = environment.task(Split.TRAIN, 4)
    assert again.prompt[0].content == tasks[4]
    assert respond(environment.start(again), "0").terminated


def test_seeding_leaves_the_global_generators_as_they_were() -> None:
    states = random.Random(3).getstate()
    random.setstate(states)
    with seeded(7):
        drawn = random.random(), np.random.random()
    assert random.random() == random.Random(3).random()
    with seeded(7):
        assert (random.random(), np.random.random()) == drawn


def test_reward_functions_may_judge_by_the_environment() -> None:
    environment = settings("Unrewarded", rewards=[f"{__name__}:steps_taken"]).make()
    episode = environment.start(environment.task(Split.TRAIN, 0))
    respond(episode, call("step"))
    respond(episode, call("step"))
    assert respond(episode, "done").reward == 1.0


def test_a_reward_that_is_no_number_or_a_tool_without_end_fails_the_episode() -> None:
    environment = settings(rewards=[f"{__name__}:not_a_number"], timeout=0.2).make()
    task = environment.task(Split.TRAIN, 0)
    with pytest.raises(ValueError, match="the reward is nan"):
        respond(environment.start(task), "done")
    with pytest.raises(SlowCallError, match=r"more than 0\.2 s"):
        respond(environment.start(task), call("sleep"))


def test_an_environment_that_begins_differently_each_time_fails() -> None:
    environment = settings("Fickle").make()
    episode = environment.start(environment.task(Split.TRAIN, 0))
    with pytest.raises(OtherObservationError):
        respond(episode, "done")


class Undescribed(Counter):
    def wait(self, seconds):  # type: ignore[no-untyped-def]
        """Waits."""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"factory": "fractions:Fraction"}, "a Fraction, which has no method reset"),
        ({"factory": f"{__name__}:Unrewarded"}, "has no get_reward, and environment.rewards"),
        ({"factory": f"{__name__}:Undescribed"}, "The tool wait has no schema"),
        ({"factory": f"{__name__}:Nothing"}, "has no 'Nothing'"),
        ({"path": "no_such.jsonl"}, "no_such.jsonl"),
        ({"rewards": ["json:nothing"]}, "environment.rewards is 'json:nothing'"),
    ],
)
def test_what_cannot_be_made_is_refused_in_a_sentence(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        settings(**changes).make()
