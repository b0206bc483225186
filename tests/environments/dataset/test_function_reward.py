"""Reward functions of one's own, in TRL's form and in that of one answer."""

import os
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from steadyrl.base.errors import UserError
from steadyrl.environments.answer_formats import AnswerFormat
from steadyrl.environments.dataset.examples import Columns, Example
from steadyrl.environments.dataset.function_reward import FunctionJudge, FunctionReward
from steadyrl.environments.dataset.rewards import Attempt
from tests.environments.dataset import reward_functions
from tests.environments.dataset.attempts import attempt, example, marks_of
from tests.environments.dataset.test_examples import read


def judge(name: str, **settings: Any) -> FunctionJudge:
    path = f"{reward_functions.__name__}:{name}"
    return FunctionReward(name=path, **settings).make(AnswerFormat.WHOLE)


def values(name: str, *texts: str, of: Example | None = None, **settings: Any) -> list[Any]:
    judged = judge(name, **settings)
    try:
        return [mark.value for mark in marks_of(judged.judge([attempt(t, of=of) for t in texts]))]
    finally:
        judged.close()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("trl_length", [1, 3]),
        ("trl_exact", [1, 0]),
        ("trl_async", [1, 3]),
        ("trl_rank", [0, 1]),
        ("alone", [1, 0]),
    ],
)
def test_functions_get_what_they_take_by_name(name: str, expected: list[float]) -> None:
    assert values(name, "2", "two") == expected
    assert judge(name).compares is (name != "alone")


def test_columns_are_given_under_their_own_names_and_the_answer_as_such_too() -> None:
    data = {"question": "1+1?", "solution": 2, "prompt": "x"}
    columns = Columns(prompt="question", answer="solution")
    row = read(data, columns=columns, reads_answer=False)
    names = ["prompts", "completions", "completion_ids", "question", "solution", "answer"]
    assert values("receives", "2", of=row, options={"names": names}) == [1]


def test_messages_are_given_where_the_data_set_has_them_or_it_is_asked_for() -> None:
    talk = example(conversational=True)
    assert values("trl_messages", "2", "two", of=talk) == [1, 3]
    assert values("alone_messages", "2", of=talk) == [1]
    assert values("trl_messages", "2", conversational=True) == [1]
    assert values("trl_length", "2", of=talk, conversational=False) == [1]


def test_tokens_are_given_as_lists_of_ids() -> None:
    judged = judge("trl_ids")
    attempts = [Attempt(example=example(), text="x", answer="x", token_ids=(5, 6, 7))]
    assert [mark.value for mark in marks_of(judged.judge(attempts))] == [3]


def test_none_is_a_reward_that_does_not_apply() -> None:
    assert values("trl_some", "skip", "x") == [None, 1]
    assert values("returns", "x", "y", options={"value": [None, np.float32(0.5)]}) == [None, 0.5]
    assert values("returns", "x", options={"value": torch.tensor([0.25])}) == [0.25]


def test_options_are_given_to_what_makes_the_function() -> None:
    assert values("maker", "22", "333", options={"limit": 2}) == [1, 0]
    with pytest.raises(
        UserError, match=r"maker cannot be called with the options {'most': 2}: missing"
    ):
        judge("maker", options={"most": 2})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", r"has no 'missing'"),
        ("NUMBER", r"The reward .*:NUMBER is 7\. Name a function"),
        ("nothing_of_use", r"takes neither completions \(a list of answers\) nor completion"),
    ],
)
def test_what_is_no_reward_function_is_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        judge(name)


def test_a_builtin_without_a_signature_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"The parameters of the reward builtins:max cannot be read: no signature"
    ):
        FunctionReward(name="builtins:max").make(AnswerFormat.WHOLE)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("trl_state", r"takes trainer_state, which only TRL's trainer provides"),
        ("trl_column", r"takes ground_truth, but the dataset has the columns prompt, answer\."),
    ],
)
def test_a_function_that_takes_what_is_not_there_is_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        judge(name).check(example())
    judge("trl_column").check(example(ground_truth="2"))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([1.0, 2.0], r"ValueError: it returned 2 rewards for 1 completions"),
        ([], r"ValueError: it returned 0 rewards for 1 completions"),
        (1.0, r"TypeError: it returned 1\.0, not a list of rewards"),
        ("1", r"TypeError: it returned '1', not a list"),
        (None, r"TypeError: it returned None"),
        ({"a": 1.0}, r"TypeError: it returned {'a': 1\.0}"),
        (["1"], r"TypeError: the reward is '1'\. Give a number"),
        ([float("nan")], r"ValueError: the reward is nan\. Give a finite number"),
        ([1e39], r"ValueError: the reward is 1e\+39, but"),
    ],
)
def test_what_is_not_a_list_of_rewards_is_a_failure(value: Any, reason: str) -> None:
    with pytest.raises(UserError, match=rf"The reward .*:returns failed: {reason}"):
        values("returns", "x", options={"value": value})


def test_a_function_that_raises_or_exits_is_a_failure_with_its_place() -> None:
    with pytest.raises(
        UserError,
        match=r":raises failed: KeyError: 'solution' \(.*reward_functions\.py:\d+\)\. ",
    ):
        values("raises", "x")
    with pytest.raises(UserError, match=r":leaves failed: SystemExit: 3"):
        values("leaves", "x")


def test_coroutine_functions_of_a_run_share_an_event_loop() -> None:
    judged = judge("client")
    for _ in range(2):  # each of these runs a loop of its own, as each rollout does
        assert [mark.value for mark in marks_of(judged.judge([attempt("x"), attempt("y")]))] == [
            1,
            1,
        ]
    judged.close()


def test_a_function_is_called_in_the_main_thread_of_the_run() -> None:
    assert values("main_thread", "x") == [1]
    assert values("process", "x") == [os.getpid()]


@pytest.mark.slow
def test_with_a_time_limit_it_is_called_in_another_process_and_given_up() -> None:
    (found,) = values("process", "x", timeout=60.0)
    assert found != os.getpid()
    assert values("trl_exact", "2", "two", timeout=60.0) == [1, 0]
    for name in ("hangs", "never"):
        with pytest.raises(UserError, match=rf":{name} failed: it took longer than 0\.2 s"):
            values(name, "x", timeout=0.2)


def test_a_failure_in_another_process_says_its_reason() -> None:
    with pytest.raises(UserError, match=r":raises failed: it raised KeyError"):
        values("raises", "x", timeout=60.0)


def test_names_without_a_module_are_refused() -> None:
    with pytest.raises(ValidationError, match="name"):
        FunctionReward(name="length_of")


@pytest.mark.parametrize("timeout", [None, 20.0])
def test_what_a_function_does_to_its_arguments_is_not_seen_by_other_calls(
    timeout: float | None,
) -> None:
    talk = example(conversational=True, tests=[1, 2, 3])
    for _ in range(2):
        assert values("trl_consumes", "2", "two", of=talk, timeout=timeout) == [4, 4]
        assert values("alone_consumes", "2", "two", of=talk, timeout=timeout) == [3, 3]
    assert talk.columns["tests"] == [1, 2, 3]


def test_a_class_is_not_called_as_a_reward() -> None:
    with pytest.raises(
        UserError, match=r"is a class. Set its options, or \{\} for none, to make a"
    ):
        judge("Client")
