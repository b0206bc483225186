"""Reward functions as users write them, for `module:name`."""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from typing import Any


def trl_length(completions: list[str], **columns: Any) -> list[float]:
    return [float(len(completion)) for completion in completions]


def trl_exact(prompts: list[str], completions: list[str], answer: list[str]) -> list[float]:
    assert len(prompts) == len(completions) == len(answer)
    return [float(c == a) for c, a in zip(completions, answer, strict=True)]


def trl_messages(completions: list[list[dict[str, str]]], **kwargs: Any) -> list[float]:
    return [float(len(messages[0]["content"])) for messages in completions]


def trl_ids(completion_ids: list[list[int]], **kwargs: Any) -> list[float]:
    return [float(len(ids)) for ids in completion_ids]


def trl_rank(completions: list[str], **kwargs: Any) -> list[float]:
    """Compares within the group: 1 for the longest."""
    longest = max(map(len, completions))
    return [float(len(completion) == longest) for completion in completions]


def trl_some(completions: list[str], **kwargs: Any) -> list[float | None]:
    return [None if completion == "skip" else 1.0 for completion in completions]


def trl_state(completions: list[str], trainer_state: Any) -> list[float]:
    return [float(trainer_state.global_step)] * len(completions)


def trl_column(completions: list[str], ground_truth: list[str]) -> list[float]:
    return [1.0] * len(completions)


async def trl_async(completions: list[str], **kwargs: Any) -> list[float]:
    await asyncio.sleep(0)
    return [float(len(completion)) for completion in completions]


class Client:
    """A client that belongs to the event loop in which it was used first."""

    loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, completion: str) -> float:
        running = asyncio.get_running_loop()
        Client.loop = Client.loop or running
        return float(Client.loop is running)


client = Client()


def alone(prompt: str, completion: str, answer: str = "") -> float:
    return float(completion == answer)


def alone_messages(prompt: list[dict[str, str]], completion: list[dict[str, str]]) -> float:
    return float(prompt[-1]["content"] == "1+1?" and completion[0]["content"] == "2")


def maybe(completion: str) -> float | None:
    return None if completion == "skip" else 1.0


def maker(limit: int) -> Callable[..., float]:
    return lambda completion: float(len(completion) <= limit)


def process(completion: str) -> float:
    return float(os.getpid())


def main_thread(completion: str) -> float:
    return float(threading.current_thread() is threading.main_thread())


def hangs(completion: str) -> float:
    time.sleep(600.0)
    return 1.0


async def never(completion: str) -> float:
    await asyncio.sleep(600.0)
    return 1.0


def raises(completions: list[str], **kwargs: Any) -> list[float]:
    raise KeyError("solution")


def leaves(completion: str) -> float:
    raise SystemExit(3)


def returns(value: Any) -> Callable[..., Any]:
    return lambda completions, **columns: value


def nothing_of_use(text: str) -> float:
    return 0.0


NUMBER = 7


def receives(names: list[str]) -> Callable[..., list[float]]:
    """A function that takes everything; 1 if it is given what has these names."""

    def compare(**given: Any) -> list[float]:
        return [float(sorted(given) == sorted(names))] * len(given["completions"])

    return compare


def trl_consumes(prompts: Any, completions: Any, tests: list[list[int]]) -> list[float]:
    """Uses up what it is given, as code does that runs one test after the other."""
    found = [len(own) + len(prompt) for prompt, own in zip(prompts, tests, strict=True)]
    for prompt, own in zip(prompts, tests, strict=True):
        prompt.append({"role": "assistant", "content": "2"})
        own.clear()
    return [float(count) for count in found]


def alone_consumes(completion: str, tests: list[int]) -> float:
    count = len(tests)
    tests.clear()
    return float(count)
