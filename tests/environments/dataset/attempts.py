"""Examples and attempts to judge."""

import asyncio
from collections.abc import Awaitable
from inspect import isawaitable
from typing import Any

from steadyrl.environments.dataset.examples import Example
from steadyrl.environments.dataset.rewards import Attempt, RewardResult
from steadyrl.records.message import Message


def example(*, answer: str | None = "2", conversational: bool = False, **columns: Any) -> Example:
    return Example(
        id="train/1",
        text="1+1?",
        prompt=(Message(role="user", content="1+1?"),),
        answer=answer,
        columns={"prompt": "1+1?", "answer": answer, **columns},
        conversational=conversational,
    )


def attempt(text: str, *, of: Example | None = None, answer: str | None = "2") -> Attempt:
    """A response that is its own answer; no answer where it is empty."""
    return Attempt(example=of or example(answer=answer), text=text, answer=text or None)


def waited_for(answer: Any) -> Any:
    """What a function returns, which may be a coroutine function."""

    async def wait() -> Any:
        return await answer if isawaitable(answer) else answer

    return asyncio.run(wait())


def marks_of(judged: list[RewardResult] | Awaitable[list[RewardResult]]) -> list[RewardResult]:
    marks: list[RewardResult] = waited_for(judged)
    return marks


def value_of(judged: list[RewardResult] | Awaitable[list[RewardResult]]) -> float:
    (mark,) = marks_of(judged)
    assert mark.value is not None
    return mark.value
