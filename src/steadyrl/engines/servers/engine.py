"""A rollout engine on an HTTP server.

    generate     one HTTP request per answer, at most `max_running` at a time
    sync         writes a folder that the server can read; the server loads it
    failure      requests are repeated with exponential back-off and their own seeds; a server that
                 has restarted gets the weights of the last sync first

Each load of weights has a tag that the server forgets when it restarts. An answer counts only if
the server still has the tag after it has replied, so none is sampled by other weights.
"""

import asyncio
import warnings
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from jaxtyping import Float, Int
from torch import Tensor

from steadyrl.base.concurrency import PerLoop, concurrently
from steadyrl.base.errors import UserError
from steadyrl.base.http import ServerError, backoff, retry
from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.engines.answers import Answer, completion
from steadyrl.engines.model_engine import GenerationProgress
from steadyrl.engines.protocol import EngineCapabilities, Request
from steadyrl.engines.served_model import ServedModel, completion_seed
from steadyrl.engines.servers.folders import SyncFolders
from steadyrl.engines.servers.protocol import Reply, ServerApi, SyncedWeights
from steadyrl.records.completion import Completion
from steadyrl.records.weight_source import WeightSource, full_weights

Value = TypeVar("Value")

FIRST_WAIT, LONGEST_WAIT = 0.5, 10.0
"""Seconds between two attempts at first, and at most."""


class ServerEngine:
    """A rollout engine on a server.

    Args:
        weights: Initial weights, loaded on first use.
        folders: Folders for weights on their way to the server.
        max_running: Maximum number of concurrent requests.
        patience: Seconds for which failed requests are repeated.
        progress: Receives the number of answers and tokens.
    """

    def __init__(
        self,
        api: ServerApi,
        model: ServedModel,
        weights: WeightSource,
        capabilities: EngineCapabilities,
        folders: SyncFolders,
        *,
        max_running: int,
        patience: float,
        progress: Progress = NO_PROGRESS,
    ) -> None:
        self.capabilities = capabilities
        self.policy_version = weights.version
        self._api, self._model = api, model
        self._initial: WeightSource | None = weights
        self._current: SyncedWeights | None = None
        self._folders = folders
        self._patience = patience
        self._slots = PerLoop(lambda: asyncio.Semaphore(max_running))
        self._loading = PerLoop(asyncio.Lock)
        self._reading = PerLoop(asyncio.Lock)
        self._reads, self._tag = 0, ""
        self._generated = GenerationProgress(progress=progress)
        self._requests = 0

    async def generate(self, request: Request) -> list[Completion]:
        """The answers to `request`, in the order of their seeds."""
        self.capabilities.check_room(len(request.prompt_ids), request.sampling)
        self._generated.start(request, first=self._requests == 0)
        self._requests += 1
        try:
            answers = (self._answer(request, index) for index in range(request.num_completions))
            return await concurrently(answers)
        finally:
            self._requests -= 1

    async def score(self, sequences: Sequence[Int[Tensor, " _T"]]) -> list[Float[Tensor, " _T"]]:
        """Log-probability of every given token after those before it, at temperature 1."""
        for tokens in sequences:
            self.capabilities.check_room(len(tokens) + 1)
        return await concurrently(self._score(tokens) for tokens in sequences)

    async def sync(self, weights: WeightSource) -> None:
        """Replaces the weights with those of a learner. Running requests are repeated."""
        if not self.capabilities.adapters:
            weights = full_weights(weights)
        async with self._loading():
            await self._replace(weights)

    def close(self) -> None:
        """Removes the folders with weights. The server keeps running."""
        self._folders.close()

    async def _answer(self, request: Request, index: int) -> Completion:
        prompt_ids, seed = request.prompt_ids.tolist(), completion_seed(request.seed, index)

        async def ask(weights: SyncedWeights) -> Reply[Answer]:
            return await self._api.generate(prompt_ids, request.sampling, seed, weights)

        answer, weights = await self._ask(ask)
        if request.sampling.temperature == 0:  # no other token can be sampled
            answer = replace(answer, logprobs=[0.0] * len(answer.token_ids))
        self._generated.report(answers=1, tokens=len(answer.token_ids))
        return completion(
            request.prompt_ids,
            answer,
            end_token_ids=self._model.end_token_ids,
            moe=self._model.moe if self.capabilities.routing else None,
            policy_version=weights.version,
        )

    async def _score(self, tokens: Int[Tensor, " T"]) -> Float[Tensor, " T"]:
        async def ask(weights: SyncedWeights) -> Reply[Float[Tensor, " T"]]:
            return await self._api.score(tokens, weights)

        scores, _ = await self._ask(ask)
        return scores

    async def _ask(
        self, ask: Callable[[SyncedWeights], Awaitable[Reply[Value]]]
    ) -> tuple[Value, SyncedWeights]:
        """The server's reply, and the weights of the last sync, with which it was computed."""
        waits = backoff(FIRST_WAIT, longest=LONGEST_WAIT, seconds=self._patience)
        async with self._slots():
            while True:
                weights = await self._loaded()
                failure: object = "restarts again and again"
                try:
                    reply = await ask(weights)
                    tag = reply.tag or await self._read_tag()
                    if tag == weights.tag and weights is self._current:
                        return reply.value, weights
                except ServerError as error:
                    if not error.passing:
                        raise self._refusal(error) from error
                    failure = error
                if weights is not self._current:
                    continue  # a sync came between
                wait = next(waits, None)
                if wait is None:
                    raise self._refusal(failure, "Check the server's log and resume the run.")
                await asyncio.sleep(wait)
                await self._recover(weights)

    async def _read_tag(self) -> str:
        """The server's tag, read after this call. Concurrent callers share one request."""
        reads = self._reads
        async with self._reading():
            if self._reads == reads:
                self._reads, self._tag = reads + 1, ""
                self._tag = await self._api.loaded_tag()
            return self._tag

    async def _loaded(self) -> SyncedWeights:
        """The weights of the last sync, once they are on the server."""
        async with self._loading():
            if self._current is None:
                if self._initial is None:
                    raise RuntimeError(
                        "The engine has no weights: its last sync failed. Sync it again."
                    )
                await self._replace(self._initial)
            assert self._current is not None
            return self._current

    async def _replace(self, weights: WeightSource) -> None:
        if weights.kind == "adapter" and self._initial is not None:
            await self._replace(self._initial)
        # From here on, running requests know that their replies are outdated.
        self._current = self._initial = None
        written = self._folders.write(weights)
        await self._load(written)
        self._folders.keep_only(written)
        self.policy_version = weights.version

    async def _load(self, weights: SyncedWeights) -> None:
        """Loads `weights` into the server, which has no known weights if that fails."""
        self._current = None
        waits = backoff(FIRST_WAIT, longest=LONGEST_WAIT, seconds=self._patience)
        try:
            await retry(lambda: self._api.load(weights), waits)
        except ServerError as error:
            raise self._refusal(error, "No weights were synced. Resume the run.") from error
        self._current = weights

    async def _recover(self, weights: SyncedWeights) -> None:
        """Waits for the server, and loads `weights` again if it has restarted."""
        async with self._loading():
            if weights is not self._current:
                return  # a sync or another request came first
            waits = backoff(FIRST_WAIT, longest=LONGEST_WAIT, seconds=self._patience)
            try:
                tag = await retry(self._api.loaded_tag, waits)
            except ServerError as error:
                remedy = "Start it again and resume the run."
                raise self._refusal(error, f"Waited {self._patience:g} s. {remedy}") from error
            if tag == weights.tag:
                return
            if self._folders.is_foreign(tag):
                raise self._refusal(
                    "got weights of another run", "Give every run a server of its own."
                )
            warnings.warn(
                f"The {self._api.name} server at {self._api.url} has restarted. It gets the "
                f"weights of version {weights.version} again.",
                RuntimeWarning,
                stacklevel=2,
            )
            await self._load(replace(weights, tag=self._folders.new_tag()))

    def _refusal(self, reason: object, remedy: str = "") -> UserError:
        return UserError(
            f"The {self._api.name} server at {self._api.url} {reason}. {remedy}".strip()
        )
