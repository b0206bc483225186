"""What environments may write into tasks and outcomes, and what becomes of it."""

import json
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from steadyrl.environments.protocol import MAX_REWARD, Outcome, Task
from steadyrl.objectives.advantages import group_mean, group_mean_std, leave_one_out
from steadyrl.records.message import Message
from tests.environments.unchecked import unchecked

HELLO = Message(role="user", content="hello")


@pytest.mark.parametrize(
    "reward",
    [0.5, np.float32(0.5), np.array(0.5), torch.tensor(0.5), torch.tensor([0.5], dtype=torch.half)],
)
def test_a_reward_may_be_a_scalar_of_numpy_or_torch(reward: Any) -> None:
    outcome = unchecked(Outcome, reward=reward, terminated=np.bool_(True))
    assert (type(outcome.reward), type(outcome.terminated)) == (float, bool)
    assert json.loads(json.dumps([outcome.reward, outcome.terminated])) == [0.5, True]


def test_a_reward_may_be_a_truth_or_a_whole_number() -> None:
    made = [unchecked(Outcome, reward=r, terminated=True) for r in (True, 2, np.int64(3))]
    assert [outcome.reward for outcome in made] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (None, r"the reward is None\. Give a number"),
        ("1", r"the reward is '1'\. Give a number"),
        (float("nan"), r"the reward is nan\. Give a finite number"),
        (np.float32("-inf"), r"the reward is -inf\. Give a finite number"),
        (Decimal("1e400"), r"the reward is inf\. Give a finite number"),
        (1e39, r"the reward is 1e\+39, but .* up to 1e\+12\. Scale"),
        (-1e39, r"the reward is -1e\+39, but"),
        (torch.tensor(1e30), r"the reward is 1\.0\d*e\+30, but"),
        (10**400, r"the reward is a int beyond 1e308, but"),
        (-(10**4000), r"the reward is a int beyond 1e308, but"),
        (Fraction(10**400, 3), r"the reward is a Fraction beyond 1e308, but"),
        (bytearray(b"1"), r"the reward is bytearray\(b'1'\)\. Give a number"),
        (1 + 1j, r"the reward is \(1\+1j\)\. Give a number"),
        (torch.tensor([0.5, 0.5]), r"the reward is tensor\(\[0\.5000, 0\.5000\]\)\. Give a number"),
        (np.array("x"), r"the reward is array\('x'.*\. Give a number"),
    ],
)
def test_what_is_no_finite_number_is_no_reward(reward: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        unchecked(Outcome, reward=reward, terminated=True)


def test_rewards_up_to_the_largest_are_taken() -> None:
    for reward in (MAX_REWARD, -MAX_REWARD):
        assert unchecked(Outcome, reward=reward, terminated=True).reward == reward


@pytest.mark.parametrize("advantage", [group_mean, group_mean_std, leave_one_out])
def test_advantages_of_the_largest_rewards_are_finite(
    advantage: Callable[[Tensor, Tensor], Tensor],
) -> None:
    rewards = torch.tensor([MAX_REWARD, -MAX_REWARD] * 512)
    found = advantage(rewards, torch.zeros(1024, dtype=torch.long))
    assert bool((found.square().sum() < torch.inf).all())


def test_messages_may_come_in_a_list() -> None:
    outcome = unchecked(Outcome, reward=0, terminated=False, observation=[HELLO])
    assert outcome.observation == (HELLO,)
    assert unchecked(Task, id="a", prompt=[HELLO]).prompt == (HELLO,)
    single = unchecked(Outcome, reward=0, terminated=False, observation=HELLO)
    assert single.observation == (HELLO,)
    assert unchecked(Task, id="a", prompt=HELLO).prompt == (HELLO,)


@pytest.mark.parametrize("messages", ["hello", [{"role": "user", "content": "hello"}]])
def test_what_are_no_messages_is_refused(messages: Any) -> None:
    with pytest.raises(TypeError, match=r"the observation is .*\. Give a Message\("):
        unchecked(Outcome, reward=0, terminated=False, observation=messages)
    with pytest.raises(TypeError, match=r"the prompt is .*\. Give a Message\("):
        unchecked(Task, id="a", prompt=messages)


def test_a_task_asks_something() -> None:
    with pytest.raises(TypeError, match=r"the prompt is empty\. Give at least one Message"):
        Task(id="a", prompt=(), payload=None)


def test_nothing_to_say_is_no_feedback() -> None:
    assert unchecked(Outcome, reward=0, terminated=True, feedback=None).feedback == ""
    with pytest.raises(TypeError, match=r"the feedback is 3\. Give a string"):
        unchecked(Outcome, reward=0, terminated=True, feedback=3)


def test_a_message_has_a_role_that_templates_know_and_a_text() -> None:
    with pytest.raises(ValueError, match=r"role is 'User'\. Use one of system, user, assistant"):
        unchecked(Message, role="User", content="hello")
    with pytest.raises(ValueError, match=r"content of a message is 3\. Use a string"):
        unchecked(Message, role="user", content=3)


def test_parts_of_a_reward_are_numbers_by_name() -> None:
    parts = {"math": np.float32(1), "length": True}
    outcome = unchecked(Outcome, reward=1.1, terminated=True, reward_parts=parts)
    assert outcome.reward_parts == {"math": 1.0, "length": 1.0}
    assert json.loads(json.dumps(outcome.reward_parts)) == outcome.reward_parts
    for wrong in ("1", None, float("nan"), 1e39):
        with pytest.raises((TypeError, ValueError), match="the reward is"):
            unchecked(Outcome, reward=0.0, terminated=True, reward_parts={"math": wrong})
