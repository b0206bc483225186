"""Base class of engines that compute in steps."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping

from steadyrl.engines.driver import EngineLoop, engine_loop
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
        """Adds a request; returns its number.

        Raises:
            UserError: the prompt is empty, or prompt and token budget exceed the engine's
                positions.
        """

    @abstractmethod
    def step(self) -> Mapping[int, list[Completion]]:
        """Computes one step; returns the completions of the requests that it completed."""

    @abstractmethod
    def withdraw(self, number: int) -> None:
        """Discards a request whose caller no longer waits."""

    async def generate(self, request: Request) -> list[Completion]:
        """Completions of `request`, in the order of their random numbers."""
        loop = engine_loop()
        return await self._finished(self.submit(request), loop)

    async def _finished(self, number: int, loop: EngineLoop) -> list[Completion]:
        """The completions of a submitted request, which is withdrawn if its caller is canceled."""
        self._waiting[number] = answers = loop.create_future()
        loop.call_when_idle(self._advance)
        try:
            return await answers
        finally:
            if self._waiting.pop(number, None) is not None:
                self.withdraw(number)

    def _advance(self) -> bool:
        """Computes a step and wakes the callers of completed requests."""
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
