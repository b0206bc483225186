"""The engines of a Ray cluster, as one engine.

    generate   asks the engine with the fewest open completions
    sync       stores the weights once; every engine loads them
    score      asks one engine after another, so that a check of syncs sees each of them
    failure    an engine that ends is started anew with the weights of the last sync; its open
               requests are sent again

A request has its own random numbers, so its answer does not depend on which engine gives it. It is
sent again only after the engine that had it has ended, so it counts once.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from steadyrl.base.concurrency import PerLoop, concurrently
from steadyrl.base.errors import UserError
from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.engines.model_engine import GenerationProgress
from steadyrl.engines.protocol import EngineCapabilities, Request
from steadyrl.policies.reach import Reach
from steadyrl.records.completion import Completion
from steadyrl.records.weight_source import AdapterSource, WeightSource, full_weights
from steadyrl.run.placement.actor_process import ActorProcess
from steadyrl.run.placement.engine_worker import SentWeights
from steadyrl.run.placement.stored_weights import put_weights
from steadyrl.run.restarts import Restarts

_REMEDY = (
    "It may have run out of memory: lower engine.max_running or placement.engines, and resume the "
    "run."
)


class EngineEndedError(UserError):
    """An engine has ended, or does not answer in time."""


class PlacedEngine:
    """One engine, which is started anew when it has ended.

    Args:
        number: Its place among the engines.
        start: Starts it, with the initial weights.
        timeout: Maximum seconds of one answer.
        restarts: Maximum number of restarts between two syncs.
    """

    def __init__(
        self,
        number: int,
        start: Callable[[], ActorProcess],
        begin: tuple[Any, ...],
        *,
        timeout: float,
        restarts: int,
    ) -> None:
        self.number = number
        self.open = 0
        """Completions that have been asked for and have not arrived."""
        self.process = start()
        self._start, self._begin = start, begin
        self._timeout = timeout
        self.restarts = Restarts(restarts, _REMEDY)
        self._weights: SentWeights | None = None
        self._reviving = PerLoop(asyncio.Lock)

    async def begin(self) -> EngineCapabilities:
        """Builds the engine; returns what it can do."""
        capabilities: EngineCapabilities = await self._ask("begin", *self._begin)
        return capabilities

    async def sync(self, weights: SentWeights) -> Reach | None:
        """Loads weights, also if the engine has ended meanwhile."""
        self._weights = weights
        self.restarts.begin_sync()
        reach: Reach | None = await self.ask("sync", weights)
        return reach

    async def ask(self, question: str, *args: Any) -> Any:
        """The answer to a question, asked again if the engine ends before it answers.

        Raises:
            UserError: the engine ends again and again, or cannot be started.
        """
        while True:
            async with self._reviving():  # one that is started anew has its weights first
                process = self.process
            try:
                return await self._ask(question, *args)
            except EngineEndedError as error:
                await self._revive(process, error)

    def close(self) -> None:
        """Ends the engine."""
        self.process.close()

    async def _ask(self, question: str, *args: Any) -> Any:
        answer = asyncio.wrap_future(self.process.ask(question, *args))
        try:
            return await asyncio.wait_for(answer, self._timeout)
        except TimeoutError:
            raise EngineEndedError(
                f"Engine {self.number} did not answer {question!r} within {self._timeout:g} "
                "seconds. Set a higher placement.timeout if the work takes longer"
            ) from None

    async def _revive(self, ended: ActorProcess, error: EngineEndedError) -> None:
        """Starts the engine anew, once for all questions that met its end."""
        async with self._reviving():
            if self.process is not ended:
                return
            self.restarts.record(error, "It is started anew, and its open requests are sent again.")
            ended.close()
            self.process = self._start()
            try:
                await self.begin()
                if self._weights is not None:
                    await self._ask("sync", self._weights)
            except EngineEndedError as again:
                raise UserError(
                    f"{again}. It had been started anew after its end. Resume the run from its "
                    "last checkpoint."
                ) from again


class RayEngine:
    """The engines of a run. See `Engine` for what each method does.

    Args:
        engines: At least one.
        progress: Receives the numbers of completions and tokens as requests are answered.
    """

    def __init__(
        self,
        engines: Sequence[PlacedEngine],
        capabilities: EngineCapabilities,
        progress: Progress = NO_PROGRESS,
    ) -> None:
        self.capabilities = capabilities
        self.policy_version = -1
        self.engines = engines
        self.reach: Reach | None = None
        """Share of the last update that reached the first engine; all round alike."""
        self._generated = GenerationProgress(progress=progress)
        self._scored = 0

    async def generate(self, request: Request) -> list[Completion]:
        """The answers to `request`, in the order of their random numbers."""
        self.capabilities.check_room(len(request.prompt_ids), request.sampling)
        self._generated.start(request, first=not any(engine.open for engine in self.engines))
        engine = min(self.engines, key=lambda each: (each.open, each.number))
        engine.open += request.num_completions
        try:
            completions: list[Completion] = await engine.ask("generate", request)
        finally:
            engine.open -= request.num_completions
        tokens = sum(len(completion.token_ids) for completion in completions)
        self._generated.report(answers=len(completions), tokens=tokens)
        return completions

    async def score(self, sequences: Sequence[Int[Tensor, " _T"]]) -> list[Float[Tensor, " _T"]]:
        """Log-probability of every given token after those before it, at temperature 1."""
        engine = self.engines[self._scored % len(self.engines)]
        self._scored += 1
        scores: list[Float[Tensor, " _T"]] = await engine.ask("score", list(sequences))
        return scores

    async def sync(self, weights: WeightSource) -> None:
        """Stores a learner's weights, which every engine loads."""
        await self.load(self.store(weights))

    def store(self, weights: WeightSource) -> SentWeights:
        """Reads weights, one at a time, and stores them where every engine reads them."""
        if not self.capabilities.adapters:
            weights = full_weights(weights)
        return SentWeights(
            version=weights.version,
            tensors=put_weights(weights.tensors("model")),
            adapter_config=weights.adapter_config if isinstance(weights, AdapterSource) else None,
        )

    async def load(self, stored: SentWeights) -> None:
        """Lets every engine load stored weights."""
        reaches = await concurrently(engine.sync(stored) for engine in self.engines)
        self.reach = reaches[0]
        self.policy_version = stored.version

    def take_restarts(self) -> Sequence[str]:
        """A sentence about each restart of an engine since the last call."""
        return [reason for engine in self.engines for reason in engine.restarts.take()]

    def close(self) -> None:
        """Ends the engines."""
        for engine in self.engines:
            engine.close()
