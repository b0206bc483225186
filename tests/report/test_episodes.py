"""Parts find together to episodes, with the memory as it was when they read it."""

from collections.abc import Callable

import pytest
from tests.report.experienced_runs import broken, failed, improved, record, remember, row, solved

from steadyrl.base.errors import UserError
from steadyrl.records.run_folder import RunFolder
from steadyrl.report.episodes import Fate, Message, Part, read_episodes
from steadyrl.report.memory import memory_contents, read_writes
from steadyrl.report.rows import checked

MakeRun = Callable[..., RunFolder]


@pytest.fixture
def folder(make_run: MakeRun) -> RunFolder:
    return make_run([{"stage": "rl", "step": 1, "reward": 0.5}])


def test_parts_find_together_by_their_number_whatever_their_order(folder: RunFolder) -> None:
    mixed = [*failed(1), *improved(0)]
    folder.write_completions("rl", 4, [mixed[place] for place in (5, 0, 4, 1, 3, 2)])
    (step, one), (_, two) = read_episodes(folder, "rl", ())

    assert step == 4
    assert (one.fate, two.fate) == (Fate.IMPROVED, Fate.NOT_IMPROVED)
    assert one.task_id == "lake/3"
    assert one.first.prompt == [
        Message(role="system", content="Be brief."),
        Message(role="user", content=" A \t D \n C \t B "),
    ]
    assert [message.content for message in one.first.response] == ["down", "again?", "left"]
    assert (one.first.reward, one.first.feedback) == (0.0, "C is a hole")
    assert one.reflection is not None
    assert one.reflection.response == [Message(role="assistant", content="Avoid C.")]
    assert one.second is not None
    assert one.second.reward == 1.0


def test_of_each_step_one_episode_of_each_fate_is_kept(folder: RunFolder) -> None:
    rows = [*solved(0), *broken(1), *failed(2), *improved(3), *improved(4, remembered=0)]
    folder.write_completions("rl", 1, [*rows, *failed(5), *solved(6)])
    episodes = [episode for _, episode in read_episodes(folder, "rl", ())]

    assert [episode.fate for episode in episodes] == list(Fate)
    # Of those that improved, the one that was remembered.
    assert [episode.record.number for episode in episodes] == [4, 2, 1, 0]


def test_the_first_a_middle_and_the_last_step_are_read(folder: RunFolder) -> None:
    for step in (1, 2, 3, 5, 8, 1_000_000):
        folder.write_completions("rl", step, improved(step))
    folder.write_completions("evaluation_rl", 9, improved(0))

    steps = [step for step, _ in read_episodes(folder, "rl", ())]
    assert steps == [1, 5, 1_000_000]


@pytest.mark.parametrize("rows", [[], [row("", None, 1.0, "3+4=", "7")], improved(0)[1:]])
def test_steps_without_whole_episodes_are_left_out(folder: RunFolder, rows: list) -> None:
    folder.write_completions("rl", 1, rows)

    assert read_episodes(folder, "rl", ()) == ()
    assert read_episodes(folder, "cold_start", ()) == ()


def test_what_was_recalled_is_what_stood_there_before_the_step(folder: RunFolder) -> None:
    remember(folder, (1, 0, "a"), (1, 1, "b"), (2, 0, "c"), (3, 0, "d"))
    folder.write_completions("rl", 3, improved(9, recalled=(0, 1)))
    writes = read_writes(folder, "rl")
    ((step, episode),) = read_episodes(folder, "rl", writes)
    assert step == 3

    assert [remembered.text for remembered in episode.recalled] == ["c", "b"]
    assert {slot: write.text for slot, write in memory_contents(writes).items()} == {0: "d", 1: "b"}
    assert read_writes(folder, "cold_start") == []


def test_a_part_in_which_the_model_said_nothing_is_all_question() -> None:
    part = checked(Part, row("reflection", record(0), 0.0, "what happened"), "Row 1")
    assert ([m.role for m in part.prompt], part.response) == (["system", "user"], [])


@pytest.mark.parametrize("change", [{"conversation": None}, {"reward": None}, {"reward": "much"}])
def test_a_part_without_conversation_or_reward_is_refused(folder: RunFolder, change: dict) -> None:
    folder.write_completions("rl", 1, [improved(0)[0] | change])

    with pytest.raises(UserError, match=r"Row 1 of .* no usable \"(conversation|reward)\""):
        read_episodes(folder, "rl", ())


def test_a_write_without_a_slot_is_refused(folder: RunFolder) -> None:
    folder.append_memory([{"stage": "rl", "step": 1, "slot": "0", "task_id": "t", "text": "x"}])

    with pytest.raises(UserError, match=r'Row 1 of .* no usable "slot", got \'0\'. Remove'):
        read_writes(folder, "rl")
