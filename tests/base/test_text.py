"""Text that every tokenizer and file takes."""

from hypothesis import given
from hypothesis import strategies as st

from steadyrl.base.errors import describe_error
from steadyrl.base.text import map_texts, well_formed
from steadyrl.environments.protocol import Outcome, Task
from steadyrl.records.message import Message

HALVES = st.characters(min_codepoint=0xD800, max_codepoint=0xDFFF)


@given(st.lists(st.one_of(st.text(max_size=3), HALVES)).map("".join))
def test_every_text_becomes_one_that_has_bytes(text: str) -> None:
    cleaned = well_formed(text)
    assert cleaned.encode("utf-8").decode("utf-8") == cleaned == well_formed(cleaned)


@given(st.text())
def test_text_that_has_bytes_stays(text: str) -> None:
    assert well_formed(text) == text


def test_halves_that_belong_together_are_joined_and_others_marked() -> None:
    assert well_formed("a\ud83d\ude00b") == "a\U0001f600b"
    assert well_formed("\ud83d\ud83d\ude00\ude00 \x00\ufffd") == "?\U0001f600? \x00\ufffd"


def test_every_text_in_a_schema_is_changed() -> None:
    schema = {"a": ["b", {"c": 1.5}], "d": (None, True)}
    assert map_texts(schema, str.upper) == {"A": ["B", {"C": 1.5}], "D": [None, True]}


def test_text_is_cleaned_where_it_enters() -> None:
    message = Message(role="user", content="a\ud800")
    task = Task(id="t\udcff", prompt=(message,), payload=None, tools=({"name": "s\ud800"},))
    outcome = Outcome(reward=0.0, terminated=True, feedback="f\ud800")
    assert (message.content, task.id, outcome.feedback) == ("a?", "t?", "f?")
    assert task.tools == ({"name": "s?"},)
    assert describe_error(ValueError("e\ud800")) == "ValueError: e?"
