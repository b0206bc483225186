"""Engines that compute in steps: what they take and give back, and who waits for it."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping

from steadyrl.engines.driver import engine_loop
from steadyrl.engines.protocol import Request
from steadyrl.records.completion import Completion


class SteppedEngine(ABC):
    """`generate` on top of `submit` and `step`.

    Example:
        number = engine.submit(request)
        finished = {}
        while number not in finished:
            finished |= engine.step()
    """

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[list[Completion]]] = {}

    @abstractmethod
    def submit(self, request: Request) -> int:
        """Takes a request; returns the number under which its answers come.

        Raises:
            UserError: the prompt is empty, or with its budget exceeds the engine's positions.
        """

    @abstractmethod
    def step(self) -> Mapping[int, list[Completion]]:
        """Computes one step; returns the answers to the requests that are answered with it."""

    @abstractmethod
    def withdraw(self, number: int) -> None:
        """Forgets a request that nobody waits for."""

    async def generate(self, request: Request) -> list[Completion]:
        """The answers to `request`, in the order of their random numbers."""
        loop = engine_loop()
        number = self.submit(request)
        self._waiting[number] = answers = loop.create_future()
        loop.call_when_idle(self._advance)
        try:
            return await answers
        finally:
            if self._waiting.pop(number, None) is not None:
                self.withdraw(number)

    def _advance(self) -> bool:
        """Takes a step, and lets those go on whose answers are there."""
        try:
            finished = self.step()
        except Exception as error:
            for answers in self._waiting.values():  # all are withdrawn as they meet it
                if not answers.done():
                    answers.set_exception(error)
            return False
        for number, completions in finished.items():
            answers = self._waiting.pop(number)
            if not answers.done():
                answers.set_result(completions)
        return bool(self._waiting)
