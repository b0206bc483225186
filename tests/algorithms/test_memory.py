"""What is remembered, for how long, and in what order it comes back."""

import json
from typing import Any

import pytest

from steadyrl.algorithms.memory import (
    Memory,
    MemoryEntry,
    MemorySettings,
    NoMemory,
    Retrieval,
    SingleSlot,
    join_entries,
    prompt_text,
)
from steadyrl.base.errors import UserError
from steadyrl.environments.protocol import Task
from steadyrl.records.memory_write import MemoryWrite
from steadyrl.records.message import Message

EVERY = [NoMemory(), SingleSlot(), SingleSlot(workers=3), Retrieval(capacity=2, recalled=1)]


def task(text: str) -> Task:
    return Task(id=f"id of {text}", prompt=(Message(role="user", content=text),), payload=None)


def recalled(memory: Memory, text: str, episode: int) -> str:
    return join_entries(memory.recall(task(text), episode))


@pytest.mark.parametrize("settings", EVERY)
def test_a_new_memory_knows_nothing(settings: MemorySettings) -> None:
    memory = settings.make()
    assert isinstance(memory, Memory)
    assert recalled(memory, "a", 0) == ""


def test_no_memory_keeps_nothing() -> None:
    memory = NoMemory().make()
    assert memory.write(task("a"), 0, "lesson") is None
    assert recalled(memory, "a", 0) == ""


def test_one_slot_holds_the_last_text_for_everybody() -> None:
    memory = SingleSlot().make()
    assert memory.write(task("a"), 0, "first") == MemoryWrite(
        slot=0, task_id="id of a", text="first"
    )
    memory.write(task("b"), 7, "second")
    assert [recalled(memory, "c", episode) for episode in (0, 1, 99)] == ["second"] * 3


def test_each_worker_has_a_slot_and_takes_episodes_in_turn() -> None:
    memory = SingleSlot(workers=3).make()
    writes = [memory.write(task("a"), episode, f"of {episode}") for episode in (0, 1, 4)]
    assert [write.slot for write in writes if write] == [0, 1, 1]
    assert [recalled(memory, "a", n) for n in range(6)] == [
        "of 0",
        "of 4",
        "",
        "of 0",
        "of 4",
        "",
    ]


def test_a_library_recalls_what_worked_on_the_most_similar_tasks() -> None:
    memory = Retrieval(capacity=9, recalled=2).make()
    memory.write(task("red green blue"), 0, "colours")
    memory.write(task("one two three"), 1, "numbers")
    memory.write(task("red one"), 2, "both")
    # Runs in common with "red green": 3 of 6 (red, green, both), 0 of 9, 1 of 5.
    assert recalled(memory, "red, GREEN", 3) == "colours\n\nboth"
    # With "two": 0, 1 of 6, 0. What has nothing in common stays away.
    assert recalled(memory, "two", 4) == "numbers"
    assert recalled(memory, "four", 5) == ""


def test_boards_of_equal_letters_differ_in_their_rows() -> None:
    memory = Retrieval(capacity=9, recalled=1).make()
    memory.write(task("A B C\nC C A"), 0, "near")
    memory.write(task("C A C\nB C A"), 1, "far")
    assert recalled(memory, "A B C\nC A C", 2) == "near"


def test_what_is_recalled_says_where_it_is_kept() -> None:
    library, slots = Retrieval(capacity=9, recalled=2).make(), SingleSlot().make()
    for number, text in enumerate(["one", "two", "one two three"]):
        for memory in (library, slots):
            memory.write(task(text), number, f"of {text}")
    found = library.recall(task("one"), 3)
    assert found == (
        MemoryEntry(slot=0, text="of one"),
        MemoryEntry(slot=2, text="of one two three"),
    )
    assert slots.recall(task("one"), 3) == (MemoryEntry(slot=0, text="of one two three"),)


def test_of_equally_similar_tasks_the_newest_comes_first() -> None:
    memory = Retrieval(capacity=9, recalled=2).make()
    for number in range(3):
        memory.write(task("same"), number, f"lesson {number}")
    assert recalled(memory, "same", 3) == "lesson 2\n\nlesson 1"


def test_a_full_library_forgets_the_oldest() -> None:
    memory = Retrieval(capacity=2, recalled=2).make()
    slots = [memory.write(task("same"), n, f"lesson {n}").slot for n in range(3)]
    assert slots == [0, 1, 0]
    assert recalled(memory, "same", 3) == "lesson 2\n\nlesson 1"


@pytest.mark.parametrize("settings", EVERY)
def test_a_memory_survives_json_and_goes_on_alike(settings: MemorySettings) -> None:
    memory, other = settings.make(), settings.make()
    for number in range(5):
        memory.write(task(f"task {number}"), number, f'"lesson" {number} ü \ud800')
    other.load_state(json.loads(json.dumps(memory.state())))
    for each in (memory, other):
        each.write(task("task 9"), 5, "later")
    assert other.state() == memory.state()
    for episode in range(6):
        again = memory.recall(task("task 3"), episode)
        assert other.recall(task("task 3"), episode) == again


@pytest.mark.parametrize("settings", EVERY)
@pytest.mark.parametrize("state", [{"memory": "else"}, {}, [], None])
def test_the_state_of_another_memory_is_refused(settings: MemorySettings, state: Any) -> None:
    with pytest.raises(UserError, match=r"The saved memory is .*its original configuration"):
        settings.make().load_state(state)


def test_a_memory_of_another_size_is_refused() -> None:
    state = SingleSlot(workers=3).make().state()
    with pytest.raises(UserError, match=r"'size': 3.* describes .*'size': 4"):
        SingleSlot(workers=4).make().load_state(state)


def test_what_a_task_asks_is_its_prompt_without_instructions() -> None:
    prompt = (Message(role="system", content="Rules."), Message(role="user", content="3+4="))
    assert prompt_text(Task(id="t", prompt=prompt, payload=None)) == "3+4="
    assert prompt_text(Task(id="t", prompt=prompt[:1], payload=None)) == "Rules."
