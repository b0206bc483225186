"""What is awaited elsewhere, run to its end in a test."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from steadyrl.algorithms.protocol import Experience, MiniBatch, Rollout
from steadyrl.base.concurrency import await_if_needed
from steadyrl.engines.driver import drive, generate_all
from steadyrl.engines.protocol import Engine, Request, Sampling
from steadyrl.engines.stepped import SteppedEngine
from steadyrl.environments.protocol import Outcome
from steadyrl.records.completion import Completion
from steadyrl.records.trajectory import Group
from steadyrl.training.sampler import sample


def generate(
    engine: Engine, requests: Iterable[Request], sampling: Sampling | None = None
) -> list[list[Completion]]:
    """The answers to `requests`, all under way at once. `sampling` takes the place of theirs."""
    if sampling is not None:
        requests = [replace(request, sampling=sampling) for request in requests]
    return generate_all(engine, requests)


@dataclass(frozen=True, slots=True)
class Collected:
    """A rollout, and what is learned from it."""

    rollout: Rollout
    experience: Experience

    @property
    def groups(self) -> Sequence[Group]:
        return self.rollout.groups

    @property
    def mini_batches(self) -> Sequence[MiniBatch]:
        return self.experience.mini_batches

    @property
    def metrics(self) -> Mapping[str, float]:
        return self.experience.metrics


def collect(algorithm: Any, step: int, engine: Engine) -> Collected:
    """What is played and learned in step `step`."""
    rollout = drive(sample(algorithm, step, engine))
    return Collected(rollout, algorithm.learn(rollout))


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
