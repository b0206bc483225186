"""Rollouts sampled in a thread of this process, by engines that compute in other processes.

    this thread      update t                  store weights, take t+1       update t+1
    its thread       play t+1, await engines   load them, begin t+2          play t+2
    the engines      decode                    decode                        decode

Rollouts and syncs follow each other in the order in which they are asked for, as in a rollout
process. Between them, a sampler that never pauses goes on, since the thread's event loop does.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from threading import Thread
from typing import Any, Protocol, TypeVar, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from steadyrl.algorithms.protocol import Rollout
from steadyrl.base.concurrency import ENDS_WITHIN
from steadyrl.engines.canary import EngineReading, read_engine
from steadyrl.engines.driver import EngineLoop, end_tasks
from steadyrl.engines.protocol import Engine, EngineCapabilities, Request, SupportsRestarts
from steadyrl.environments.protocol import Closable
from steadyrl.records.completion import Completion
from steadyrl.records.weight_source import WeightSource
from steadyrl.training.continuous_sampler import ContinuousSampler
from steadyrl.training.sampler import LocalSampler, PendingRollout, WaitingRollouts
from steadyrl.training.stage import Stage

Result = TypeVar("Result")


@runtime_checkable
class StoringEngine(Engine, Protocol):
    """An engine whose syncs have two parts, so that the learner may go on after the first."""

    def store(self, weights: WeightSource) -> Any:
        """Reads the weights, and stores them where the engine can read them."""
        ...

    async def load(self, stored: Any) -> None:
        """Loads stored weights into the engine."""
        ...


class RolloutThread:
    """A thread with an event loop, in which a sampler plays and waits for engines.

    Args:
        sampler: Used in the thread only, as are its algorithms and their environment.
        environment: That environment, which is closed with the thread.
    """

    def __init__(self, engine: StoringEngine, sampler: LocalSampler, environment: object) -> None:
        self.engine = engine
        self.sampler = sampler
        self.loaded: Future[None] = Future()
        """Done when the weights that were stored last are loaded."""
        self.loaded.set_result(None)
        self._environment = environment
        self._turn = asyncio.Lock()
        self._loop = EngineLoop()
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def ask(self, work: Callable[[], Coroutine[Any, Any, Result]]) -> "Future[Result]":
        """Runs a coroutine in the thread, beside what it is doing."""
        return asyncio.run_coroutine_threadsafe(work(), self._loop)

    def ask_in_turn(self, work: Callable[[], Coroutine[Any, Any, Result]]) -> "Future[Result]":
        """Runs a coroutine in the thread, after all that were asked for in turn before."""

        async def run() -> Result:
            async with self._turn:
                return await work()

        return self.ask(run)

    def call(self, function: Callable[..., Result], *args: Any) -> Result:
        """The result of a function that is called in the thread, in turn."""

        async def work() -> Result:
            return function(*args)

        return self.ask_in_turn(work).result()

    def load(self, stored: Any) -> None:
        """Loads stored weights, and tells the sampler that the engine has them."""

        async def work() -> None:
            await self.engine.load(stored)
            if isinstance(self.sampler, ContinuousSampler):
                await self.sampler.publish()

        self.loaded = self.ask_in_turn(work)

    def sample(self, stage: int, step: int) -> "Future[Rollout]":
        """Samples the rollout of a step, in turn."""

        async def work() -> Rollout:
            pending = await self.sampler.begin(stage, step)
            return await pending()

        return self.ask_in_turn(work)

    def close(self) -> None:
        """Ends what is running, the thread, and then the engine."""
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(ENDS_WITHIN)
        if not self._thread.is_alive():
            end_tasks(self._loop)
            self._loop.close()
        for part in (self._environment, self.engine):
            if isinstance(part, Closable):
                part.close()


class ThreadSampler(LocalSampler):
    """Samples in a rollout thread; stages that need no engine are played in this one."""

    def __init__(self, stages: Sequence[Stage], engine: Engine, thread: RolloutThread) -> None:
        super().__init__(stages, engine)
        self._thread = thread
        self._is_there = [stage.algorithm.samples_from_engine for stage in stages]

    async def begin(self, stage: int, step: int) -> PendingRollout:
        """Asks the thread for the rollout, which it samples after those asked for before."""
        if not self._is_there[stage]:
            return await super().begin(stage, step)
        answer = self._thread.sample(stage, step)

        async def finished() -> Rollout:
            return await asyncio.wrap_future(answer)

        return finished

    async def take_reference(self, stage: int, reference: WeightSource) -> None:
        """Gives the algorithm in the thread the weights at the beginning of its stage."""
        sampler = self._thread.sampler
        await asyncio.wrap_future(
            self._thread.ask_in_turn(lambda: sampler.take_reference(stage, reference))
        )

    def state(self, stage: int) -> Any:
        """State of the algorithm, after all rollouts asked for; None if it has none."""
        there = self._is_there[stage]
        return (
            self._thread.call(self._thread.sampler.state, stage) if there else super().state(stage)
        )

    def load_state(self, stage: int, state: Any) -> None:
        """Restores the state of the algorithm."""
        if self._is_there[stage]:
            self._thread.call(self._thread.sampler.load_state, stage, state)
        else:
            super().load_state(stage, state)

    def waiting(self, stage: int) -> WaitingRollouts | None:
        """What has started in the thread and no step has consumed."""
        if not self._is_there[stage]:
            return None
        return self._thread.call(self._thread.sampler.waiting, stage)

    def load_waiting(self, stage: int, waiting: WaitingRollouts) -> None:
        """Restores `waiting()`."""
        self._thread.call(self._thread.sampler.load_waiting, stage, waiting)


class ThreadEngine:
    """The engine of a rollout thread. See `Engine` for what each method does.

    Closing it ends the thread.
    """

    def __init__(self, thread: RolloutThread) -> None:
        self.policy_version = -1
        self._thread = thread

    @property
    def capabilities(self) -> EngineCapabilities:
        """Capabilities of the engine."""
        return self._thread.engine.capabilities

    async def generate(self, request: Request) -> list[Completion]:
        """The answers to a request, with the weights that were sent last or later ones."""
        return await self._after_load(lambda: self._thread.engine.generate(request))

    async def score(self, sequences: Sequence[Int[Tensor, " _T"]]) -> list[Float[Tensor, " _T"]]:
        """Log-probability of every given token after those before it, at temperature 1."""
        return await self._after_load(lambda: self._thread.engine.score(sequences))

    def begin_reading(self, probes: Sequence[Int[Tensor, " T"]]) -> Callable[[], EngineReading]:
        """Begins a reading with the weights that were sent last; the result waits for it."""
        return self._thread.ask_in_turn(lambda: read_engine(self._thread.engine, probes)).result

    async def sync(self, weights: WeightSource) -> None:
        """Stores the weights of a learner. They are loaded after the rollouts asked for before."""
        await asyncio.shield(asyncio.wrap_future(self._thread.loaded))
        self._thread.load(self._thread.engine.store(weights))
        self.policy_version = weights.version

    def take_restarts(self) -> Sequence[str]:
        """A sentence about each restart of the engine since the last call."""
        engine = self._thread.engine
        return engine.take_restarts() if isinstance(engine, SupportsRestarts) else ()

    def close(self) -> None:
        """Ends the thread and the engine."""
        self._thread.close()

    async def _after_load(self, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        await asyncio.shield(asyncio.wrap_future(self._thread.loaded))
        return await asyncio.wrap_future(self._thread.ask(work))
