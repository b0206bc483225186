"""What a reader of the page learns of an episode and of the memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.report.experienced_runs import (
    broken,
    failed,
    improved,
    record,
    remember,
    row,
    solved,
)

from steadyrl.records.run_folder import RunFolder
from steadyrl.report import write_report

MakeRun = Callable[..., RunFolder]
ReadPage = Callable[[Path], Any]

ROWS = [
    {"stage": "rl", "step": step, "reward": step / 4, "reward_after_reflection": step / 2}
    for step in (1, 2)
]


@pytest.fixture
def folder(make_run: MakeRun) -> RunFolder:
    return make_run(ROWS)


def text_of(folder: RunFolder, read_page: ReadPage) -> str:
    return read_page(write_report(folder)).text


def test_an_episode_is_told_from_its_task_to_what_was_kept(
    folder: RunFolder, read_page: ReadPage
) -> None:
    remember(folder, (1, 0, "C kills."))
    folder.write_completions("rl", 2, improved(7, recalled=(0,), remembered=0))
    page = read_page(write_report(folder))

    told = (
        "Step 2 · second attempt earned more · reward 0 → 1 lake/3 "
        "Task System message, 9 characters Be brief. A D C B "
        "First attempt ✗ wrong reward 0 Model down User again? Model left Feedback C is a hole "
        "Memory Slot 0, written in step 1, task of C kills. C kills. "
        "Reflection Avoid C. "
        "Second attempt ✓ right reward 1 System message, 9 characters Be brief. right Feedback won "
        "Outcome Internalized: trained on with the task alone as the prompt. The reflection was "
        "stored in slot 0 of the memory."
    )
    assert told in page.text
    # The board keeps its columns: tabs stand in a preformatted text.
    assert "<pre> A \t D \n C \t B </pre>" in folder.report.read_text(encoding="utf-8")


def test_one_episode_that_reflecting_helped_is_open_and_the_others_are_folded(
    folder: RunFolder, read_page: ReadPage
) -> None:
    folder.write_completions("rl", 1, [*failed(1), *broken(2), *solved(3)])
    folder.write_completions("rl", 2, improved(4))
    folder.write_completions("rl", 3, improved(5))
    page = read_page(write_report(folder))
    episodes = [a for tag, a in page.tags if tag == "details" and a.get("class") == "episode"]

    assert ["open" in attributes for attributes in episodes] == [False] * 3 + [True, False]
    assert (
        "Memory Nothing was recalled. Reflection Try again. Second attempt ✗ wrong reward 0 "
        "System message, 9 characters Be brief. down Outcome Not internalized. "
        "Not stored in the memory." in page.text
    )
    assert "Failed: the reflection is empty. Later parts are not trained on." in page.text
    assert "No reflection. Only the first attempt is trained on." in page.text


def test_calls_and_replies_of_tools_are_told_turn_by_turn(
    folder: RunFolder, read_page: ReadPage
) -> None:
    call = '<tool_call>\n{"name": "local_search"}\n</tool_call>'
    talk = [
        {"role": "user", "content": "Question: where?"},
        {"role": "assistant", "content": call},
        {"role": "tool", "content": "[Document 1] Oslo"},
        {"role": "assistant", "content": r"\boxed{Oslo}"},
    ]
    first = row("first_attempt", record(0, reflects=False), 0.5, conversation=talk)
    folder.write_completions("rl", 1, [first])

    assert (
        'Task Question: where? First attempt ◐ partly right reward 0.5 Model <tool_call> {"name": '
        '"local_search"} </tool_call> Tool [Document 1] Oslo Model \\boxed{Oslo}'
    ) in text_of(folder, read_page)


def test_an_attempt_under_the_raw_record_has_no_reflection(
    folder: RunFolder, read_page: ReadPage
) -> None:
    folder.write_completions("rl", 1, [improved(0)[0], improved(0)[2]])
    text = text_of(folder, read_page)

    assert "Feedback C is a hole Second attempt ✓ right" in text
    assert "Nothing was recalled" not in text


def test_what_is_told_is_shown_and_never_run(folder: RunFolder, read_page: ReadPage) -> None:
    attack = '</pre></details><script>alert("1")</script>'
    told = record(0, failure=attack, recalled=(0,))
    rows = [
        row(part, told, 0.0, attack, attack, task_id=attack, feedback=attack)
        for part in ("first_attempt", "reflection", "second_attempt")
    ]
    rows[0]["conversation"][0] = {"role": attack, "content": attack}
    rows[2]["truncation_reason"] = attack
    folder.write_completions("rl", 2, rows)
    remember(folder, (1, 0, attack))
    page = read_page(write_report(folder))

    assert not {tag for tag, _ in page.tags} & {"script", "img", "link", "iframe"}
    # Task id; two messages of the task; answer and feedback; origin and text of what was recalled;
    # reflection; answer, reason and feedback; failure; origin and text in the memory. The part
    # without a system message has a role of its own, which no one names.
    assert page.text.count('<script>alert("1")</script>') == 1 + 2 + 2 + 2 + 1 + 3 + 1 + 2


def test_half_surrogates_do_not_stop_a_report(folder: RunFolder, read_page: ReadPage) -> None:
    remember(folder, (1, 0, "half \ud800"))

    assert "half ?" in text_of(folder, read_page)


def test_a_long_text_loses_its_middle(folder: RunFolder, read_page: ReadPage) -> None:
    first = row("first_attempt", record(0), 0.0, "b" * 9_000, "down")
    folder.write_completions("rl", 1, [first])

    assert "[… 5,000 characters left out …]" in text_of(folder, read_page)


def test_the_memory_shows_what_it_holds_and_some_of_what_it_held(
    folder: RunFolder, read_page: ReadPage
) -> None:
    remember(folder, *((step, 0, f"rule {step}") for step in range(1, 31)), (40, 1, "other"))
    text = text_of(folder, read_page)

    assert (
        "Memory The memory was written to 31 times, first in step 1 and last in step "
        "40, and holds 2 texts. Step 40 · slot 1 · task of other other "
        "Step 30 · slot 0 · task of rule 30 rule 30 Earlier content: 8 of 29" in text
    )
    # 29 texts, 8 of them at equal distances of 4.
    held_before = text.partition("Earlier content")[2]
    assert [f"rule {n} " in held_before for n in (1, 5, 9, 13, 17, 21, 25, 29)] == [True] * 8
    assert held_before.count("slot 0") == 8


def test_equal_texts_that_were_written_again_count_as_earlier_ones(
    folder: RunFolder, read_page: ReadPage
) -> None:
    remember(folder, *[(1, 0, "same")] * 3)

    assert "Earlier content: 2 " in text_of(folder, read_page)


def test_many_texts_are_shown_newest_first_and_not_all(
    folder: RunFolder, read_page: ReadPage
) -> None:
    remember(folder, *((step, step, f"rule {step}") for step in range(1, 21)))
    text = text_of(folder, read_page)

    assert "holds 20 texts, the newest 8 of them shown. Step 20 · slot 20" in text
    assert "rule 13 rule 13" in text
    assert "rule 12" not in text


def test_reward_before_and_after_reflection_share_their_axes(
    folder: RunFolder, read_page: ReadPage
) -> None:
    page = read_page(write_report(folder))
    (label,) = [label for label in page.values_of("aria-label") if "First attempts" in label]

    assert label == (
        "First attempts over 2 points, from 0.25 to 0.5; "
        "Last attempts, after reflection over 2 points, from 0.5 to 1"
    )
    assert "First attempts 0.25 → 0.5 Last attempts, after reflection 0.5 → 1" in page.text


def test_a_run_that_does_not_reflect_says_nothing_of_it(
    make_run: MakeRun, read_page: ReadPage
) -> None:
    folder = make_run([{"stage": "rl", "step": 1, "reward": 0.5}])
    folder.write_completions("rl", 1, [row("", None, 1.0, "3+4=", "7")])
    text = text_of(folder, read_page)

    for word in ("before and after reflection", "Episodes", "Memory"):
        assert word not in text
