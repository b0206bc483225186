"""Answers that are JSON of a schema."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from steadyrl.base.errors import UserError
from steadyrl.environments.answer_formats import AnswerFormat
from steadyrl.environments.dataset.examples import InvalidRowError
from steadyrl.environments.dataset.json_reward import JSONSchemaReward, parse_json
from steadyrl.environments.dataset.rewards import RewardResult
from tests.environments.dataset.attempts import attempt, example, marks_of

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
}


def mark(text: str, settings: JSONSchemaReward | None = None) -> RewardResult:
    settings = settings or JSONSchemaReward(accepts=SCHEMA)
    (judged,) = marks_of(settings.make(AnswerFormat.WHOLE).judge([attempt(text)]))
    return judged


@pytest.mark.parametrize(
    ("text", "value", "reason"),
    [
        ('{"name": "Ada", "age": 36}', 1, "the answer matches the schema"),
        ('```json\n{"name": "Ada", "age": 36}\n```', 1, "the answer matches the schema"),
        ('Here:\n```\n{"name": "Ada", "age": 36}```\nDone.', 1, "the answer matches the schema"),
        ('{"name": "Ada", "age": -1}', 0, "the answer violates the schema at $.age"),
        ('{"name": "Ada"}', 0, "the answer violates the schema at $"),
        ('[{"name": "Ada", "age": 36}]', 0, "the answer violates the schema at $"),
        ('{"name": "Ada", "age": NaN}', 0, "the answer is not JSON (NaN is not a number of JSON)"),
        ('Sure: {"name": "Ada", "age": 36}', 0, "the answer is not JSON (Expecting value"),
        (
            '```\n{}\n```\n```\n{"name": "Ada", "age": 1}\n```',
            0,
            "the answer is not JSON (2 blocks)",
        ),
        ("[" * 100_000, 0, "the answer is not JSON ("),
        ("", 0, "the answer is not JSON ("),
    ],
)
def test_json_is_accepted_or_not_with_the_place(text: str, value: float, reason: str) -> None:
    judged = mark(text)
    assert judged.value == value
    assert judged.reason.startswith(reason)


def test_a_schema_may_be_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(SCHEMA))
    settings = JSONSchemaReward(file=path)
    assert mark('{"name": "Ada", "age": 36}', settings).value == 1
    path.write_text("{")
    with pytest.raises(UserError, match=r"Cannot read the JSON Schema in .*schema\.json"):
        settings.make(AnswerFormat.WHOLE)
    path.write_text('{"type": "strin"}')
    with pytest.raises(UserError, match=r"schema\.json is not a valid JSON Schema: 'strin' is not"):
        settings.make(AnswerFormat.WHOLE)


@pytest.mark.parametrize("form", [dict, json.dumps])
def test_each_row_may_have_a_schema_of_its_own(form: Any) -> None:
    reward = JSONSchemaReward(column="schema").make(AnswerFormat.WHOLE)
    row = example(schema=form({"type": "integer"}))
    reward.check(row)
    values = [mark.value for mark in marks_of(reward.judge([attempt(t, of=row) for t in "7x"]))]
    assert values == [1, 0]
    for odd in ("{", 7, {"type": "strin"}, None):
        with pytest.raises(InvalidRowError, match="the column 'schema' "):
            reward.check(example(schema=odd))


def test_a_schema_that_leads_elsewhere_loads_nothing() -> None:
    settings = JSONSchemaReward(accepts={"$ref": "http://127.0.0.1:9/schema.json"})
    with pytest.raises(UserError, match=r"accepts refers to 'http://127\.0\.0\.1:9/schema\.json'"):
        settings.make(AnswerFormat.WHOLE)


def test_a_schema_may_refer_to_its_own_parts() -> None:
    own = {"$defs": {"n": {"type": "integer"}}, "items": {"$ref": "#/$defs/n"}, "type": "array"}
    assert [mark(text, JSONSchemaReward(accepts=own)).value for text in ("[1]", '["x"]')] == [1, 0]


@pytest.mark.parametrize(
    ("given", "message"),
    [({}, "has no schema"), ({"accepts": {}, "column": "c"}, "has accepts and column")],
)
def test_there_is_one_schema(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        JSONSchemaReward(**given)


def test_a_wrong_schema_is_refused_when_the_run_begins() -> None:
    with pytest.raises(UserError, match=r"accepts is not a valid JSON Schema: 'strin' is not"):
        JSONSchemaReward(accepts={"type": "strin"}).make(AnswerFormat.WHOLE)


def test_json_values_of_any_kind_are_read() -> None:
    assert [parse_json(text) for text in ("1", '"x"', "null", "[1]")] == [1, "x", None, [1]]
