"""What is awaited elsewhere, run to its end in a test."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from steadyrl.algorithms.protocol import Experience
from steadyrl.base.concurrency import await_if_needed
from steadyrl.engines.driver import drive, generate_all
from steadyrl.engines.protocol import Engine, Request, Sampling
from steadyrl.engines.stepped import SteppedEngine
from steadyrl.environments.protocol import Outcome
from steadyrl.records.completion import Completion


def generate(
    engine: Engine, requests: Iterable[Request], sampling: Sampling | None = None
) -> list[list[Completion]]:
    """The answers to `requests`, all under way at once. `sampling` takes the place of theirs."""
    if sampling is not None:
        requests = [replace(request, sampling=sampling) for request in requests]
    return generate_all(engine, requests)


def collect(algorithm: Any, step: int, engine: Engine) -> Experience:
    """The experience of step `step`."""
    return drive(algorithm.collect(step, engine))


def respond(episode: Any, text: str) -> Outcome:
    """The outcome of a turn, whether it is awaited or not."""
    return drive(await_if_needed(episode.respond(text)))


class FakeEngine(SteppedEngine):
    """An engine for tests: a step answers everything that was submitted before it by `answer`."""

    def __init__(self) -> None:
        super().__init__()
        self._requests: dict[int, Request] = {}
        self._submitted = 0

    @property
    def under_way(self) -> int:
        """Requests without answers."""
        return len(self._requests)

    def answer(self, requests: Sequence[Request]) -> list[list[Completion]]:
        """The answers to each of `requests`."""
        raise NotImplementedError

    def submit(self, request: Request) -> int:
        self._submitted += 1
        self._requests[self._submitted] = request
        return self._submitted

    def step(self) -> dict[int, list[Completion]]:
        asked, self._requests = self._requests, {}
        return dict(zip(asked, self.answer(list(asked.values())), strict=True))

    def withdraw(self, number: int) -> None:
        self._requests.pop(number, None)
