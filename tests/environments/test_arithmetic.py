from dataclasses import replace

import pytest

from steadyrl.base.errors import UserError
from steadyrl.environments.arithmetic import Arithmetic, ArithmeticSettings
from steadyrl.environments.arithmetic_chain import chain_text, partial_results
from steadyrl.environments.arithmetic_styles import Style, write
from steadyrl.environments.protocol import Outcome, Split, Task
from steadyrl.records.message import Message

SINGLE = Arithmetic(ArithmeticSettings(max_operand=20, max_result=40))
MULTI = Arithmetic(ArithmeticSettings(max_operand=20, max_result=40, turns="multi"))


def answer(text: str) -> Outcome:
    """The outcome of answering 3+14-2+9= by `text`."""
    task = replace(SINGLE.task(Split.TRAIN, 0), payload=(3, 14, -2, 9))
    return SINGLE.start(task).respond(text)


@pytest.mark.parametrize("style", Style)
def test_right_steps_in_any_style_earn_one(style: Style):
    outcome = answer(write(style, (3, 14, -2, 9), (17, 15, 24)))
    assert outcome == Outcome(reward=1.0, terminated=True, feedback="every step is right")


@pytest.mark.parametrize(
    ("text", "feedback"),
    [
        ("17,14,24", "step 2: 17-2 is 15, you wrote 14"),
        ("17,14,23", "step 2: 17-2 is 15, you wrote 14"),
        ("16,14,23", "step 1: 3+14 is 17, you wrote 16"),
        ("24", "step 1: 3+14 is 17, you wrote 24"),
        ("17,15", "step 3: 15+9 is missing"),
        ("17,15,24,24", "the chain has 3 steps, you wrote 4"),
        ("4 17 15 24", "the chain begins with 3, you wrote 4"),
        ("3 17 15 25", "step 3: 15+9 is 24, you wrote 25"),
        ("3+14=17;17-3=15;15+9=24", "step 2 is 17-2, you wrote 17-3"),
        ("3+14=17;17-2=14;14+9=23", "step 2: 17-2 is 15, you wrote 14"),
        ("14+3=17;17-2=15;15+9=24", "step 1 is 3+14, you wrote 14+3"),
    ],
)
def test_feedback_names_the_first_mistake(text: str, feedback: str):
    assert answer(text) == Outcome(reward=0.0, terminated=True, feedback=feedback)


@pytest.mark.parametrize("text", ["", "17,15,24.", "the answer is 17,15,24", "no idea " * 100])
def test_anything_else_written_earns_nothing_and_is_shown(text: str):
    outcome = answer(text)
    assert outcome.reward == 0.0
    assert outcome.terminated
    assert outcome.feedback.startswith("malformed: write a chain like")
    assert repr(text[:60])[1:-1] in outcome.feedback
    assert len(outcome.feedback) < 200


def test_the_prompt_asks_the_whole_chain():
    task = SINGLE.task(Split.TEST, 5)
    assert task.prompt == (Message(role="user", content=chain_text(task.payload) + "="),)
    assert task.id == "arithmetic/test/5"


def test_a_multi_turn_episode_asks_one_step_a_turn_and_pays_at_the_end():
    task = replace(MULTI.task(Split.TRAIN, 0), payload=(3, 14, -2, 9))
    episode = MULTI.start(task)
    second, third, end = (episode.respond(text) for text in ("17", " 15\n", "24"))
    assert second.observation == (Message(role="user", content="17-2="),)
    assert third.observation == (Message(role="user", content="15+9="),)
    assert end.observation == ()
    assert [outcome.reward for outcome in (second, third, end)] == [0.0, 0.0, 1.0]
    assert [outcome.terminated for outcome in (second, third, end)] == [False, False, True]


def test_a_multi_turn_prompt_asks_the_first_step():
    task = MULTI.task(Split.TRAIN, 3)
    assert task.prompt[0].content == chain_text(task.payload[:2]) + "="


@pytest.mark.parametrize(
    ("text", "feedback"),
    [
        ("14", "step 2: 17-2 is 15, you wrote 14"),
        ("17-2=15", "step 2: write one number only, you wrote '17-2=15'"),
        ("15,24", "step 2: write one number only, you wrote '15,24'"),
        ("", "step 2: write one number only, you wrote ''"),
    ],
)
def test_a_multi_turn_episode_ends_at_the_first_mistake(text: str, feedback: str):
    episode = MULTI.start(replace(MULTI.task(Split.TRAIN, 0), payload=(3, 14, -2, 9)))
    episode.respond("17")
    assert episode.respond(text) == Outcome(reward=0.0, terminated=True, feedback=feedback)


def test_tasks_are_the_same_in_every_process():
    # Pinned: another chain here means that every reader's runs would see other tasks.
    questions = [
        Arithmetic(ArithmeticSettings()).task(split, 0).prompt[0].content for split in Split
    ]
    assert questions == ["5+3-4-1=", "6+7+7-6=", "6+6-9+3="]


def test_indices_give_many_different_tasks():
    tasks = [SINGLE.task(Split.TRAIN, index).payload for index in range(2000)]
    assert len(set(tasks)) > 1800


def test_splits_share_no_task():
    asked = {
        split: {SINGLE.task(split, index).payload for index in range(count)}
        for split, count in ((Split.TRAIN, 3000), (Split.VALIDATION, 300), (Split.TEST, 300))
    }
    assert asked[Split.TRAIN].isdisjoint(asked[Split.VALIDATION] | asked[Split.TEST])
    assert asked[Split.VALIDATION].isdisjoint(asked[Split.TEST])


def test_splits_share_out_a_small_world_and_leave_no_chain():
    environment = Arithmetic(ArithmeticSettings(operands=3, max_operand=3, max_result=4))
    asked = [
        {environment.task(split, index).prompt[0].content for index in range(700)}
        for split in Split
    ]
    world = {
        f"{first}{second:+d}{third:+d}="
        for first in range(1, 4)
        for second in range(-3, 4)
        for third in range(-3, 4)
        if second and third and 0 <= first + second <= 4 and 0 <= first + second + third <= 4
    }
    assert set().union(*asked) == world
    assert sum(map(len, asked)) == len(world)


def test_every_drawn_task_is_solved_by_its_partial_results():
    for index in range(200):
        task: Task = SINGLE.task(Split.VALIDATION, index)
        response = write(Style.RESULTS, task.payload, partial_results(task.payload))
        assert SINGLE.start(task).respond(response).reward == 1.0


def test_a_world_too_small_for_three_splits_is_refused():
    with pytest.raises(UserError, match=r"no chain is left for .*Raise operands"):
        Arithmetic(ArithmeticSettings(operands=2, max_operand=1, max_result=1))
