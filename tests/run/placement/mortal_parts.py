"""Runs of which parts die at random: one of two engines, the learner's rank, or the driver.

The engines are those of `RayEngine` with its restarts, the loss of a rank is met by
`until_complete`, and the run is that of `mortal_run`. Only the processes are not real: an actor is
an object that forgets all that it was asked.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from steadyrl.base.errors import UserError
from steadyrl.learners.fsdp.hosts import rank_ended
from steadyrl.learners.loss_term import LossTerm
from steadyrl.learners.protocol import Update
from steadyrl.records.run_folder import RunFolder
from steadyrl.run.placement.engine_worker import SentWeights
from steadyrl.run.placement.ray_engine import EngineEndedError, PlacedEngine, RayEngine
from steadyrl.run.rank_loss import until_complete
from tests.training.mortal_run import Death, TaskLearner, Typewriter, Way, live

ENGINES = 2
MANY = 1 << 20
DEATHS = "deaths.json"
"""File of a run with its deaths by part."""

Part = str
Points = Callable[[Part], bool]
"""Told of each point at which a part may die; returns whether it does."""


class Fate:
    """Decides which point is the last of a part."""

    def __init__(self, seed: str, mean: int) -> None:
        self.deaths: Counter[Part] = Counter()
        self._random = random.Random(seed)
        self._mean = mean
        self._left = self._draw()

    def __call__(self, part: Part) -> bool:
        self._left -= 1
        if self._left > 0:
            return False
        self._left = self._draw()
        self.deaths[part] += 1
        return True

    def _draw(self) -> int:
        return self._random.randint(1, 2 * self._mean)


class Actor:
    """An engine's process, as `ActorProcess` shows it. It takes a while until it has begun."""

    def __init__(self, name: Part, dies: Points, begins: Iterator[int]) -> None:
        self._name = name
        self._beginning = next(begins)
        self._has_begun = self._beginning == 0
        self._engine = Typewriter(lambda: self.end() if dies(name) else None)
        self._open: dict[Future[Any], asyncio.Task[Any]] = {}
        self._has_ended = False

    def ask(self, question: str, *args: Any) -> "Future[Any]":
        answer: Future[Any] = Future()
        answer.set_running_or_notify_cancel()
        if self._has_ended:
            answer.set_exception(self._error())
            return answer
        task = asyncio.ensure_future(getattr(self, question)(*args))
        self._open[answer] = task
        task.add_done_callback(partial(self._settle, answer))
        return answer

    async def begin(self) -> Any:
        for _ in range(self._beginning):
            await asyncio.sleep(0)
        self._has_begun = True
        return self._engine.capabilities

    async def sync(self, weights: SentWeights) -> None:
        assert self._has_begun, "there is no engine yet"
        await self._engine.sync(weights)

    async def generate(self, request: Any) -> Any:
        assert self._has_begun, "there is no engine yet"
        assert self._engine.policy_version >= 0, "it has no weights yet"
        return await self._engine.generate(request)

    def end(self) -> None:
        """Forgets everything. Who waits for an answer hears of it."""
        self._has_ended = True
        waiting, self._open = self._open, {}
        for answer, task in waiting.items():
            task.cancel()
            answer.set_exception(self._error())

    close = end

    def _settle(self, answer: "Future[Any]", task: "asyncio.Task[Any]") -> None:
        if self._open.pop(answer, None) is None:
            return
        if (error := task.exception()) is not None:
            answer.set_exception(error)
        else:
            answer.set_result(task.result())

    def _error(self) -> EngineEndedError:
        return EngineEndedError(f"{self._name} ended (its process died)")


class Engines(RayEngine):
    """Two engines, and a sampler that hears of their weights."""

    published: Callable[[], Any]

    def __init__(self, dies: Points) -> None:
        placed = [
            PlacedEngine(
                number,
                partial(Actor, f"engine {number}", dies, chain([0], repeat(20))),
                (),
                timeout=60.0,
                restarts=MANY,
            )
            for number in range(ENGINES)
        ]
        super().__init__(placed, Typewriter(lambda: None).capabilities)

    async def load(self, stored: SentWeights) -> None:
        await super().load(stored)
        await self.published()


class RankLearner(TaskLearner):
    """A learner whose rank dies before or after an update."""

    def __init__(self, dies: Points) -> None:
        super().__init__(self._point)
        self._dies = dies

    def update(self, terms: Sequence[LossTerm], *, step: int, steps: int) -> Update:
        for _ in range(4):  # there are few of these points beside those of engines
            self._point()
        return super().update(terms, step=step, steps=steps)

    def _point(self) -> None:
        if self._dies("rank"):
            raise rank_ended(1, "its process died")


def live_in_parts(path: Path, way: Way, fate: Fate) -> bool:
    """Lives until the end of the run, or of its driver; returns whether the run is over."""

    def life(reason: str = "") -> RunFolder:
        live(path, way, driver, Engines(fate), RankLearner(fate))
        return RunFolder(path)

    def driver() -> None:
        if fate("driver"):
            raise Death

    try:
        until_complete(life, life, RunFolder(path), MANY)
    except (Death, UserError):  # also an engine that dies as it is started anew
        return False
    return True


def die_in_parts(path: Path, way: Way, points: int) -> int:
    """A life in which something dies about every so many points; 0: nothing has."""
    fate = Fate(f"{path.name}, {points}", points)
    is_over = live_in_parts(path, way, fate)
    count_deaths(path, fate.deaths)
    total = sum(fate.deaths.values())
    assert is_over or total, "only a death ends a life"
    return total


def count_deaths(path: Path, deaths: Counter[Part]) -> None:
    """Adds to the deaths that the run has had before."""
    record = path / DEATHS
    before = json.loads(record.read_text()) if record.exists() else {}
    record.write_text(json.dumps(deaths + Counter(before)))
