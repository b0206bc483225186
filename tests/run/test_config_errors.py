"""Messages for configurations that are not valid."""

import pytest
from pydantic import ValidationError

from steadyrl.base.errors import UserError
from steadyrl.run.config import RunConfig, parse
from steadyrl.run.config_errors import describe

MATH = {"name": "math", "path": "problems.jsonl"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"environment": MATH | {"field": "question"}},
            "environment.field: unknown setting, got 'question'. Known here: ",
        ),
        (
            {"environment": {"name": "math"}},
            "environment.path: required (JSON Lines file, or JSON file with a list, of objects "
            'with the fields "problem" and "answer" and optionally "id". Other fields are '
            "ignored). Set environment.path in the file, or --environment.path",
        ),
        (
            {"environment": {"name": "mathh"}},
            "environment.name: unknown name, got 'mathh'. Did you mean 'math'?",
        ),
        (
            {"environment": {"name": "zork"}},
            "environment.name: unknown name, got 'zork'. Known names: arithmetic, reasoning_gym, ",
        ),
        ({"environment": {"path": "x"}}, "environment.name: required. It selects "),
        (
            {"environment": {"name": "no_such_tasks:Reverse"}},
            "environment.name: the name is 'no_such_tasks:Reverse': No module named ",
        ),
        (
            {"environment": {"name": "tests.rollout.fakes:Quiz", "digits": 4}},
            "environment.digits: unknown setting, got 4. Known here: options, turns",
        ),
        (
            {
                "environment": MATH,
                "algorithm": {"objective": {"name": "grpo", "weight_cap": 3}},
            },
            "algorithm.objective.weight_cap: unknown setting, got 3. "
            "Known here: clip_low, clip_high",
        ),
        (
            {"environment": {"name": "hotpot_qa", "questions": {"name": "fil"}}},
            "environment.questions.name: unknown name, got 'fil'. Did you mean 'file'?",
        ),
        (
            {"environment": {"name": "dataset", "path": "a.csv", "rewards": ["mth"]}},
            "environment.rewards.0.name: unknown name, got 'mth'. Did you mean 'math'?",
        ),
        ({"environment": MATH, "optimizer": {"betas": [0.9]}}, "optimizer.betas.1: got [0.9], "),
        (
            {"environment": MATH, "optimizer": {"betas": ["high", 0.9]}},
            "optimizer.betas.0: got 'high', expected: number",
        ),
        (
            {"environment": MATH, "steps": "three"},
            "steps: got 'three', expected: whole number, at least 0",
        ),
        (
            {"environment": MATH, "optimizer": {"schedule": "cosin"}},
            "got 'cosin', expected: constant, linear, cosine. Did you mean 'cosine'?",
        ),
        (
            {"environment": MATH, "sampling": 3},
            "sampling: got 3, expected: names and values",
        ),
    ],
)
def test_a_setting_is_named_as_it_is_written_with_what_it_may_be(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError) as refusal:
        parse(values, "my.yaml")

    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"environment": {"name": "dataset", "path": "a.csv", "rewards": ["zork"]}},
            "environment.rewards.0.name: unknown name, got 'zork'. Known names: exact, math, "
            "choice, regex, json_schema, length, or module:Class or module:function",
        ),
        (
            {"environment": MATH, "routing_replay": "r4"},
            "routing_replay: got 'r4', expected: none, r2, r3, auto",
        ),
        (
            {"environment": MATH, "engine": {"max_running": "three"}},
            "engine.max_running: got 'three', expected: whole number, at least 1, auto",
        ),
        ({"environment": MATH, "trackers": ["zork"]}, "trackers.0.name: unknown name, got 'zork'."),
    ],
)
def test_one_mistake_is_named_once_whatever_pydantic_has_tried(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError) as refusal:
        parse(values, "my.yaml")

    text = str(refusal.value).removeprefix("The configuration of my.yaml is not valid: ")
    assert text.startswith(message)
    assert ";" not in text


def test_an_error_of_an_unknown_type_is_described_by_the_location_of_pydantic() -> None:
    with pytest.raises(ValidationError) as refusal:
        RunConfig.model_validate({"environment": MATH, "steps": "many", "stepz": 1})

    assert "steps: Input should be a valid integer" in describe(refusal.value)
    assert "stepz: Extra inputs are not permitted, got 1" in describe(refusal.value)


def test_a_list_is_not_called_too_short_for_want_of_an_item_that_is_wrong() -> None:
    with pytest.raises(UserError) as refusal:
        parse({"environment": {"name": "dataset", "path": "a", "rewards": ["mth"]}}, "my.yaml")

    assert str(refusal.value).endswith("Did you mean 'math'?")
