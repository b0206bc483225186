"""Prompts of reflections, parsing of lessons, and prompts of guided attempts.

The structure of the long prompts follows tables 4, 5 and 9 of arXiv:2602.13949, in our own words,
without the batch statistics of the authors' code. Text from models, environments and memories is
neutralized first: it cannot open a turn or call a tool.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Protocol, runtime_checkable

from steadyrl.base.errors import call_user_code, require_type
from steadyrl.environments.protocol import Environment, Task
from steadyrl.environments.thinking import strip_thinking
from steadyrl.records.message import Message
from steadyrl.records.trajectory import Trajectory

Neutral = Callable[[str], str]


class ReflectionStyle(StrEnum):
    """Format of attempts in the prompt, and of lessons in the reply."""

    RULEBOOK = "rulebook"
    """Grid games: a strategist writes rules and a strategy in numbered slots."""

    INSTRUCTIONS = "instructions"
    """HotpotQA: an editor improves free-form instructions."""

    COMPACT = "compact"
    """Small character-level models: bare facts, and the whole reply is the lesson."""


class MalformedReflectionError(ValueError):
    """A reflection without a valid lesson. The message is the reason."""


@runtime_checkable
class SupportsGuidance(Protocol):
    """An environment that knows where its prompts hold instructions."""

    def guide(self, task: Task, rulebook: str) -> Task:
        """`task` with `rulebook` instead of its instructions."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """Record of an attempt for a reflection. All texts are neutralized.

    Example:
        AttemptRecord(task="3+4=", attempt="8", feedback="wrong", reward=0.0, memory="")
    """

    task: str
    attempt: str
    feedback: str
    reward: float
    memory: str
    """Earlier lessons; may be empty."""


STRATEGIST = """\
You are the chief strategist for agents that play a game without being told its rules. From \
records of their attempts you write the rulebook that the next agent follows. It sees nothing else.

Principles:
1. Think long-term: what wins the whole game, not only the next move.
2. Contrast what led to success with what led to failure.
3. Consolidate: keep what proved right, correct what proved wrong, add what is new.
4. Be authoritative and brief. State rules of the game, not facts about one board.

Answer with one block in exactly this format:
<prompt>
<game_rules>
1. Symbols: what each one means, and which is the player
2. Information: what can be seen and how to read it
3. Play: turns and actions
4. Effects: what each action does
5. End: the goal, and how a game is won or lost
</game_rules>
<strategy>
1. Core strategy
2. Tips
</strategy>
</prompt>"""

EDITOR = """\
You improve the instructions of an agent. You read its task, every step it took, the results of \
its tools, and its reward. Then you write instructions that make such failures less likely, for \
example an unused tool, an unsupported claim, or an answer in the wrong format.

The instructions must also serve other tasks of this kind. Keep them short, and do not reveal the \
answer to this task.

Answer with the complete new instructions between <prompt> and </prompt>."""

_SYSTEM = {ReflectionStyle.RULEBOOK: STRATEGIST, ReflectionStyle.INSTRUCTIONS: EDITOR}

_REPORT = """\
Lessons from earlier attempts (may be wrong):
{memory}

The task:
{task}

The attempt:
{attempt}

Reward: {reward:g}
Feedback:
{feedback}"""

_REQUEST = "Write the improved instructions for the next attempt, between <prompt> and </prompt>."

RETRY = "You attempted this task before. Learn from the record of that attempt and do better."

_BLOCK = re.compile(r"<prompt>(.*?)</prompt>", re.DOTALL)


def make_record(task: Task, attempt: Trajectory, memory: str, neutral: Neutral) -> AttemptRecord:
    """Record of `attempt` for a reflection."""
    lines = [
        attempt.feedback,
        attempt.truncation_reason and f"Truncated: {attempt.truncation_reason}",
    ]
    messages = attempt.messages[len(task.prompt) :]
    return AttemptRecord(
        task=neutral(_transcript(task.prompt)),
        attempt=neutral(_transcript(messages)),
        feedback=neutral("\n".join([line for line in lines if line]) or "no feedback"),
        reward=attempt.reward,
        memory=neutral(memory),
    )


def reflection_prompt(record: AttemptRecord, style: ReflectionStyle) -> tuple[Message, ...]:
    """Prompt of a reflection.

    Compact: the memory as the system message, if there is one; then task, response, feedback and
    reward, on separate lines.
    """
    if style is ReflectionStyle.COMPACT:
        memory = (Message(role="system", content=record.memory),) if record.memory else ()
        return (*memory, Message(role="user", content=f"{record.task}\n{_compact(record)}"))
    return (
        Message(role="system", content=_SYSTEM[style]),
        Message(role="user", content=f"{_report(record)}\n\n{_REQUEST}"),
    )


def parse_lesson(reply: str, style: ReflectionStyle, *, max_length: int) -> str:
    """Lesson in a reflection, without thinking.

    Raises:
        MalformedReflectionError: there is none, or it has more than `max_length` characters.
    """
    spoken = strip_thinking(reply)
    if style is not ReflectionStyle.COMPACT:
        blocks: list[str] = _BLOCK.findall(spoken)
        if not blocks:
            raise MalformedReflectionError("the reflection has no <prompt> block")
        spoken = blocks[-1]
    lesson = spoken.strip()
    if not lesson:
        raise MalformedReflectionError("the reflection is empty")
    if len(lesson) > max_length:
        raise MalformedReflectionError(
            f"the reflection has {len(lesson)} characters, at most {max_length} are allowed"
        )
    return lesson


def guided_task(environment: Environment, task: Task, lesson: str) -> Task:
    """`task` with a neutralized `lesson` instead of its instructions.

    The environment replaces the instructions if it supports this; otherwise the lesson becomes the
    system message.

    Raises:
        UserError: the environment raises, or does not return a task.
    """
    if isinstance(environment, SupportsGuidance):
        name = type(environment).__name__
        guided = call_user_code(
            partial(environment.guide, task, lesson),
            failure=f"{name}.guide failed on the task {task.id!r}",
            remedy="Fix or remove it.",
        )
        remedy = "Return `task` with another prompt."
        return require_type(guided, Task, given_by=f"{name}.guide", noun="a task", remedy=remedy)
    messages = [message for message in task.prompt if message.role != "system"]
    return replace(task, prompt=(Message(role="system", content=lesson), *messages))


def task_with_record(task: Task, record: AttemptRecord, style: ReflectionStyle) -> Task:
    """`task` with the raw record of an attempt after its instructions."""
    text = _compact(record) if style is ReflectionStyle.COMPACT else _record(record)
    system = [message.content for message in task.prompt if message.role == "system"]
    messages = [message for message in task.prompt if message.role != "system"]
    content = "\n\n".join([*system, text])
    return replace(task, prompt=(Message(role="system", content=content), *messages))


def _report(record: AttemptRecord) -> str:
    return _REPORT.format(
        memory=record.memory or "None yet.",
        task=record.task,
        attempt=record.attempt,
        reward=record.reward,
        feedback=record.feedback,
    )


def _record(record: AttemptRecord) -> str:
    feedback = f"Reward: {record.reward:g}\nFeedback:\n{record.feedback}"
    return f"{RETRY}\n\nYour attempt:\n{record.attempt}\n\n{feedback}"


def _compact(record: AttemptRecord) -> str:
    return f"{record.attempt}\n{record.feedback}\n{record.reward:g}"


def _transcript(messages: tuple[Message, ...]) -> str:
    """Text of the messages, with their roles if there are several."""
    if len({message.role for message in messages}) <= 1:
        return "\n".join([message.content for message in messages])
    return "\n".join([f"[{message.role}] {message.content}" for message in messages])
