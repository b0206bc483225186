"""Continuous batching over a Hugging Face model with a key-value cache."""

from dataclasses import replace
from typing import Literal

import torch

from steadyrl.base.errors import UserError
from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.engines.cache_memory import CacheMemory, cache_size, half_of_free_memory
from steadyrl.engines.continuous_batch import ContinuousBatch
from steadyrl.engines.driver import engine_loop
from steadyrl.engines.engine_model import EngineModel
from steadyrl.engines.engine_settings import (
    EngineContext,
    EngineMemory,
    EngineSettings,
    ModelEngineSettings,
    PositiveOrAuto,
)
from steadyrl.engines.model_engine import ModelEngine
from steadyrl.engines.protocol import Request, TokenListener
from steadyrl.engines.slot_probe import slot_cache_unsupported_reason
from steadyrl.policies.attention_masks import AttentionMasks
from steadyrl.policies.probes import unsupported_reason
from steadyrl.records.completion import Completion
from steadyrl.records.weight_source import WeightSource

PREFILL_POSITIONS = 1 << 14
"""Maximum positions of a prefill pass, padding included."""


class LocalEngineSettings(ModelEngineSettings):
    """Continuous batching with a key-value cache."""

    name: Literal["local"] = "local"

    max_running: PositiveOrAuto = 512
    """Maximum number of sequences decoded concurrently. auto: as many as `cache_memory` holds at
    full length."""

    cache_memory: PositiveOrAuto = "auto"
    """Memory for keys and values in MiB. auto: half of the free memory at the start of the run,
    stored in its config.yaml. If not all sequences fit at full length, keys and values are stored
    in pages, which is slower, and the last sequences restart when pages run out."""

    def make(self, context: EngineContext) -> "LocalEngine":
        """The engine.

        Raises:
            UserError: the model does not support batches with a cache.
        """
        running, memory = self.max_running, self.cache_memory
        return LocalEngine(
            self.engine_model(context),
            max_running=None if running == "auto" else running,
            cache_memory=None if memory == "auto" else memory << 20,
            progress=context.progress,
        )

    def memory(self, itemsize: int) -> EngineMemory:
        """What the engine takes, its keys and values included."""
        return replace(super().memory(itemsize), cache=self.number_size(itemsize))

    def resolve(self, device: torch.device) -> "LocalEngineSettings":
        """The settings with a fixed amount of cache memory."""
        if self.cache_memory != "auto":
            return self
        memory = max(1, half_of_free_memory(device) >> 20)
        return self.model_copy(update={"cache_memory": memory})

    def resolve_from(self, began: EngineSettings) -> "LocalEngineSettings":
        """The settings with the cache memory of the run when it `began`."""
        if self.cache_memory != "auto" or not isinstance(began, LocalEngineSettings):
            return self
        return self.model_copy(update={"cache_memory": began.cache_memory})


class LocalEngine(ModelEngine):
    """A rollout engine in this process.

    Args:
        model: The engine's copy of the policy.
        max_running: Maximum number of concurrent sequences; None: as many as fit at full length.
        cache_memory: Bytes for keys and values; None: half of the free memory.
        prefill_positions: Maximum positions of a prefill pass, padding included. A longer prompt
            has its own pass.
        progress: Receives the numbers of completions and tokens after every pass.

    Raises:
        UserError: the model has states other than keys and values, accepts no positions, or
            computes different results if sequences of different lengths share a batch.
    """

    def __init__(
        self,
        model: EngineModel,
        *,
        max_running: int | None,
        cache_memory: int | None = None,
        prefill_positions: int = PREFILL_POSITIONS,
        progress: Progress = NO_PROGRESS,
    ) -> None:
        super().__init__(model, score_positions=prefill_positions, progress=progress)
        self._prefill_positions = prefill_positions
        try:
            self._masks = AttentionMasks(model.model)
        except UserError as error:
            raise _suggest_reference(str(error)) from error
        reason = unsupported_reason(slot_cache_unsupported_reason, model.model)
        if reason is not None:
            raise _suggest_reference(reason)
        self._memory = CacheMemory(
            size=cache_size(model, self._masks.window_of),
            limit=half_of_free_memory(model.device) if cache_memory is None else cache_memory,
            max_running=max_running,
        )
        self._requests: dict[int, Request] = {}
        self._submitted = 0
        self._batch: ContinuousBatch | None = None

    streams_tokens = True

    async def stream(self, request: Request, listener: TokenListener) -> list[Completion]:
        """Completions of `request`, whose tokens `listener` receives as they are sampled."""
        loop = engine_loop()
        number = self.submit(request)
        assert self._batch is not None, "a request was submitted"
        self._batch.listen(number, listener)
        return await self._finished(number, loop)

    def submit(self, request: Request) -> int:
        """Adds a request; returns the number of its completions."""
        self._model.check(request)
        self._memory.check(request)
        self._generated.start(request, first=not self._requests)
        number = self._submitted
        self._submitted += 1
        self._requests[number] = request
        self._add(number, request)
        return number

    def step(self) -> dict[int, list[Completion]]:
        """Samples a token for every running sequence."""
        assert self._batch is not None, "nothing was submitted"
        # Leaving inference mode turns gradients on again: no_grad is the inner one.
        with torch.inference_mode(not self._model.needs_versions), torch.no_grad():
            step = self._batch.step()
        self._generated.report(answers=step.finished, tokens=step.tokens)
        for number in step.answers:
            del self._requests[number]
        self._free_batch()
        return step.answers

    def withdraw(self, number: int) -> None:
        """Discards a request."""
        if self._requests.pop(number, None) is not None and self._batch is not None:
            with torch.inference_mode(not self._model.needs_versions), torch.no_grad():
                self._batch.remove(number)
            self._free_batch()

    async def sync(self, weights: WeightSource) -> None:
        """Loads a learner's weights. Running sequences go on with them."""
        before = self.policy_version
        self._model.sync(weights)
        if self._batch is not None:
            with torch.inference_mode(not self._model.needs_versions), torch.no_grad():
                self._batch.renew(before)

    def _add(self, number: int, request: Request) -> None:
        if self._batch is None:
            self._batch = ContinuousBatch(
                self._model, self._masks, self._memory, prefill_positions=self._prefill_positions
            )
        self._batch.add(number, request)

    def _free_batch(self) -> None:
        """Frees keys and values if there are no requests."""
        if not self._requests:
            self._batch = None


def _suggest_reference(reason: str) -> UserError:
    return UserError(f"{reason} Use the engine 'reference' for it.")
