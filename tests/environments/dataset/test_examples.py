"""From rows to prompts and answers."""

import json
from decimal import Decimal
from typing import Any

import pytest

from steadyrl.environments.dataset.examples import (
    Columns,
    Example,
    InvalidRowError,
    RowReader,
    template_fields,
)

TALK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}]


def reader(**changes: Any) -> RowReader:
    values = {
        "columns": Columns(),
        "template": None,
        "system": None,
        "request": "",
        "answer_pattern": None,
        "reads_answer": True,
    }
    return RowReader(**{**values, **changes})


def read(row: dict[str, Any], **changes: Any) -> Example:
    return reader(**changes).example(row, "train/1")


def said(example: Example) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in example.prompt]


def test_a_text_is_what_the_user_says_and_the_row_goes_along() -> None:
    row = {"prompt": "1+1?", "answer": "2", "level": 3}
    example = read(row, system="Be brief.", request="Use a box.")
    assert said(example) == [("system", "Be brief."), ("user", "1+1?\n\nUse a box.")]
    assert (example.id, example.text, example.answer) == ("train/1", "1+1?", "2")
    assert (example.columns, example.conversational) == (row, True)
    assert not read(row).conversational


def test_messages_are_a_conversation() -> None:
    example = read({"prompt": TALK, "answer": 2}, request="Use a box.")
    assert said(example) == [("system", "Be brief."), ("user", "1+1?\n\nUse a box.")]
    assert (example.text, example.conversational) == ("system: Be brief.\nuser: 1+1?", True)
    parts = [{"role": "user", "content": [{"type": "text", "text": "1+1?"}]}]
    assert said(read({"prompt": parts, "answer": 2})) == [("user", "1+1?")]


def test_columns_have_other_names_and_a_dot_leads_into_one() -> None:
    row = {"frage": "1+1?", "reward_model": {"ground_truth": "2"}, "a.b": "3"}
    columns = Columns(prompt="frage", answer="reward_model.ground_truth")
    example = read(row, columns=columns)
    assert (example.text, example.answer) == ("1+1?", "2")
    assert example.columns == {**row, "answer": "2"}
    assert read(row, columns=Columns(prompt="frage", answer="a.b")).answer == "3"
    assert reader(columns=columns).required == ["frage", "reward_model.ground_truth"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"),
        (-3.0, "-3"),
        (0.5, "0.5"),
        (1e300, "1e+300"),
        (Decimal("1.50"), "1.50"),
        (" kept ", " kept "),
        (10**30, str(10**30)),
    ],
)
def test_answers_may_be_numbers(value: Any, text: str) -> None:
    assert read({"prompt": "q", "answer": value}).answer == text


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "the column 'answer' is missing or has no value"),
        ("", "the column 'answer' is empty"),
        (" \n", "the column 'answer' is empty"),
        (float("nan"), "the column 'answer' is nan, not text or a number"),
        (float("inf"), "the column 'answer' is inf"),
        (True, "the column 'answer' is True"),
        (["42"], r"the column 'answer' is \['42'\]"),
        ({"value": 42}, "the column 'answer' is {'value': 42}"),
    ],
)
def test_odd_answers_are_refused(value: Any, reason: str) -> None:
    with pytest.raises(InvalidRowError, match=reason):
        read({"prompt": "q", "answer": value})
    assert read({"prompt": "q", "answer": value}, reads_answer=False).answer is None


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "the column 'prompt' is missing or has no value"),
        ("", "the column 'prompt' is empty"),
        (5, "the column 'prompt' is 5, not text or a list of messages"),
        ([], r"the column 'prompt' is \[\]"),
        (["hello"], "holds the message 'hello', not one with a role"),
        ([{"role": "human", "content": "hello"}], "holds the message {'role': 'human'"),
        ([{"role": "user", "content": [{"type": "image"}]}], "holds the message"),
        ([{"role": "user", "content": None}], "holds the message"),
        (
            [*TALK, {"role": "assistant", "content": "2"}],
            "has the role 'assistant', not 'user'",
        ),
    ],
)
def test_odd_prompts_are_refused(value: Any, reason: str) -> None:
    with pytest.raises(InvalidRowError, match=reason):
        read({"prompt": value, "answer": "1"})


def test_two_system_prompts_are_refused() -> None:
    with pytest.raises(
        InvalidRowError, match=r"has a system message, and environment\.system is set"
    ):
        read({"prompt": TALK, "answer": 2}, system="Be long.")


def test_a_template_puts_columns_into_the_prompt_and_letters_before_choices() -> None:
    row = {"q": "Which? {x}", "choices": {"text": ["red", 2]}, "answer": "A"}
    example = read(row, template="{q}\n{choices.text}\n{{A or B}}")
    assert said(example) == [("user", "Which? {x}\nA. red\nB. 2\n{A or B}")]
    assert reader(template="{q} {choices.text}").required == ["q", "choices.text", "answer"]
    with pytest.raises(InvalidRowError, match=r"'choices\.text' has 27 entries"):
        read({**row, "choices": {"text": ["x"] * 27}}, template="{choices.text}")
    with pytest.raises(InvalidRowError, match=r"'q' is \{\}, not text"):
        read({**row, "q": {}}, template="{q}")


@pytest.mark.parametrize("template", ["{}", "{q!r}", "{q:>5}", "{q", "q}"])
def test_templates_say_columns_and_nothing_else(template: str) -> None:
    with pytest.raises(ValueError):
        template_fields(template)


def test_a_pattern_cuts_the_answer_out_of_its_column() -> None:
    row = {"prompt": "q", "answer": "3 + 4 = 7\n#### 7 "}
    assert read(row, answer_pattern="#### (.*)").answer == "7"
    with pytest.raises(
        InvalidRowError, match=r"answer_pattern finds nothing in the column 'answer'"
    ):
        read(row, answer_pattern="@@ (.*)")
    with pytest.raises(InvalidRowError, match="finds nothing"):
        read({"prompt": "q", "answer": "#### "}, answer_pattern="####(.*)")


@pytest.mark.parametrize(
    ("row", "gold"),
    [
        ({"answer": 0}, "0"),
        ({"answer": "2"}, "2"),
        ({"final": "2", "answer": "Because 1 and 1 make 2."}, "2"),
        ({"answer": ["2", "two"]}, "['2', 'two']"),
        ({"answer": None}, None),
        ({}, None),
    ],
)
def test_the_correct_answer_is_known_where_no_reward_reads_it(
    row: dict[str, Any], gold: str | None
) -> None:
    columns = Columns(answer="final" if "final" in row else "answer")
    assert read({"prompt": "1+1?", **row}, columns=columns, reads_answer=False).gold == gold


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(TALK),
        repr(TALK),
        repr([{"content": "1+1?", "role": "user"}]),
        f"array({TALK}, dtype=object)",
    ],
)
def test_messages_written_as_text_are_refused(text: str) -> None:
    with pytest.raises(InvalidRowError, match=r"a list of messages written as text, .* save it as"):
        read({"prompt": text, "answer": "2"})


@pytest.mark.parametrize("text", ["[1, 2]", '[{"name": "user"}]', "{'role': 'user'}", "[{"])
def test_other_lists_are_prompts(text: str) -> None:
    assert read({"prompt": text, "answer": "2"}).text == text
