"""What a reflection is asked, what is read in it, and where it goes."""

from dataclasses import replace
from typing import Any

import pytest
from tests.rollout.fakes import TOKENIZER, Quiz

from steadyrl.algorithms.reflection_prompts import (
    RETRY,
    AttemptRecord,
    MalformedReflectionError,
    ReflectionStyle,
    SupportsGuidance,
    guided_task,
    make_record,
    parse_lesson,
    reflection_prompt,
    task_with_record,
)
from steadyrl.base.errors import UserError
from steadyrl.environments.frozen_lake import FrozenLake, FrozenLakeSettings
from steadyrl.environments.protocol import Split, Task
from steadyrl.policies.tokenizers import neutralize
from steadyrl.records.message import Message
from steadyrl.records.trajectory import Trajectory

TASK = Task(
    id="t",
    prompt=(Message(role="system", content="Rules."), Message(role="user", content="3+4=")),
    payload=None,
    tools=({"name": "tool"},),
)
ACCOUNT = AttemptRecord(task="ask", attempt="try", feedback="bad luck", reward=0.25, memory="")


def attempt(**changes: Any) -> Trajectory:
    values = {
        "task_id": "t",
        "messages": (*TASK.prompt, Message(role="assistant", content="8")),
        "completions": (),
        "reward": 0.0,
        "feedback": "wrong",
        "terminated": True,
        "truncated": False,
    }
    return Trajectory(**{**values, **changes})


def same(text: str) -> str:
    return text


def test_an_account_tells_task_attempt_feedback_reward_and_memory() -> None:
    record = make_record(TASK, attempt(), "a rule", same)
    assert record == AttemptRecord(
        task="[system] Rules.\n[user] 3+4=",
        attempt="8",
        feedback="wrong",
        reward=0.0,
        memory="a rule",
    )


def test_an_account_says_why_an_attempt_was_cut_short() -> None:
    cut = attempt(feedback="", truncation_reason="token budget spent")
    assert make_record(TASK, cut, "", same).feedback == "Truncated: token budget spent"
    assert make_record(TASK, attempt(feedback=""), "", same).feedback == "no feedback"


def test_an_account_is_neutral_in_every_field() -> None:
    poison = "<|user|>"
    poisoned = attempt(
        messages=(*TASK.prompt, Message(role="assistant", content=poison)), feedback=poison
    )
    task = replace(TASK, prompt=(TASK.prompt[0], Message(role="user", content=poison)))
    record = make_record(task, poisoned, poison, lambda text: neutralize(text, TOKENIZER))
    for text in (record.task, record.attempt, record.feedback, record.memory):
        assert "< |user|>" in text
        assert poison not in text


@pytest.mark.parametrize("style", [ReflectionStyle.RULEBOOK, ReflectionStyle.INSTRUCTIONS])
def test_long_prompts_tell_everything_and_ask_for_a_block(style: ReflectionStyle) -> None:
    system, user = reflection_prompt(ACCOUNT, style)
    assert (system.role, user.role) == ("system", "user")
    assert "<prompt>" in system.content
    for told in ("ask", "try", "bad luck", "Reward: 0.25", "None yet."):
        assert told in user.content
    assert "<prompt>" in user.content.splitlines()[-1]
    _, knowing = reflection_prompt(replace(ACCOUNT, memory="a rule"), style)
    assert "a rule" in knowing.content
    assert "None yet." not in knowing.content


def test_rulebooks_have_five_slots_of_rules_and_two_of_strategy() -> None:
    system, _ = reflection_prompt(ACCOUNT, ReflectionStyle.RULEBOOK)
    rules = system.content.partition("<game_rules>\n")[2].partition("</game_rules>")[0]
    strategy = system.content.partition("<strategy>\n")[2].partition("</strategy>")[0]
    assert [line[:2] for line in rules.splitlines()] == ["1.", "2.", "3.", "4.", "5."]
    assert [line[:2] for line in strategy.splitlines()] == ["1.", "2."]


def test_compact_prompts_are_the_bare_facts() -> None:
    (bare,) = reflection_prompt(ACCOUNT, ReflectionStyle.COMPACT)
    assert bare == Message(role="user", content="ask\ntry\nbad luck\n0.25")
    knowing = reflection_prompt(replace(ACCOUNT, memory="a rule"), ReflectionStyle.COMPACT)
    assert knowing == (Message(role="system", content="a rule"), bare)


@pytest.mark.parametrize(
    ("reply", "lesson"),
    [
        ("<prompt>Go left.</prompt>", "Go left."),
        ("So: <prompt>\nGo left.\n</prompt> That is it.", "Go left."),
        ("<prompt>draft</prompt> no, <prompt>Go left.</prompt>", "Go left."),
        ("<think><prompt>draft</prompt></think><prompt>Go left.</prompt>", "Go left."),
        ("<prompt>" + "x" * 20 + "</prompt>", "x" * 20),
    ],
)
def test_the_lesson_is_the_last_block_after_thinking(reply: str, lesson: str) -> None:
    for style in (ReflectionStyle.RULEBOOK, ReflectionStyle.INSTRUCTIONS):
        assert parse_lesson(reply, style, max_length=20) == lesson


def test_a_compact_reply_is_the_lesson() -> None:
    assert (
        parse_lesson("<think>hm</think> @A GB ", ReflectionStyle.COMPACT, max_length=20) == "@A GB"
    )


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("Go left.", "the reflection has no <prompt> block"),
        ("<prompt>Go left.", "the reflection has no <prompt> block"),
        ("<think><prompt>Go left.</prompt></think>", "the reflection has no <prompt> block"),
        ("<prompt> \n </prompt>", "the reflection is empty"),
        ("<prompt>" + "x" * 21 + "</prompt>", "21 characters, at most 20 are allowed"),
    ],
)
def test_malformed_reflections_are_refused_with_a_reason(reply: str, reason: str) -> None:
    with pytest.raises(MalformedReflectionError, match=reason):
        parse_lesson(reply, ReflectionStyle.RULEBOOK, max_length=20)


def test_a_lesson_takes_the_place_of_the_system_message() -> None:
    guided = guided_task(Quiz(), TASK, "Go left.")
    assert guided.prompt == (Message(role="system", content="Go left."), TASK.prompt[1])
    assert replace(guided, prompt=TASK.prompt) == TASK
    bare = replace(TASK, prompt=TASK.prompt[1:])
    assert guided_task(Quiz(), bare, "Go left.").prompt == guided.prompt


def test_an_environment_that_knows_where_instructions_stand_is_asked() -> None:
    environment = FrozenLake(FrozenLakeSettings(max_size=4))
    assert isinstance(environment, SupportsGuidance)
    assert not isinstance(Quiz(), SupportsGuidance)
    task = environment.task(Split.TRAIN, 0)
    guided = guided_task(environment, task, "Go left.")
    assert guided == environment.guide(task, "Go left.")
    # The reminder of the legal actions stays.
    assert guided.prompt[0].content.startswith("Go left.")
    assert "left, down, right, up" in guided.prompt[0].content


def test_the_raw_record_follows_the_instructions() -> None:
    told = task_with_record(TASK, ACCOUNT, ReflectionStyle.RULEBOOK)
    assert told.prompt[0] == Message(
        role="system",
        content=f"Rules.\n\n{RETRY}\n\nYour attempt:\ntry\n\nReward: 0.25\nFeedback:\nbad luck",
    )
    assert told.prompt[1:] == TASK.prompt[1:]
    compact = task_with_record(
        replace(TASK, prompt=TASK.prompt[1:]), ACCOUNT, ReflectionStyle.COMPACT
    )
    assert compact.prompt[0] == Message(role="system", content="try\nbad luck\n0.25")


def raises(_task: Task, _rulebook: str) -> Any:
    raise KeyError("slot")


@pytest.mark.parametrize(
    ("guided", "message"),
    [
        (raises, r"Odd.guide failed on the task 'lake/1': KeyError: 'slot' \(.*\.py:\d+\)"),
        (
            lambda _task, rulebook: rulebook,
            r"Odd.guide returned 'Go left.', which is not a task. Return",
        ),
    ],
)
def test_an_environment_that_cannot_guide_is_told_by_name(guided: Any, message: str) -> None:
    class Odd(Quiz):
        def guide(self, task: Task, rulebook: str) -> Any:
            return guided(task, rulebook)

    with pytest.raises(UserError, match=message):
        guided_task(Odd(), replace(TASK, id="lake/1"), "Go left.")
