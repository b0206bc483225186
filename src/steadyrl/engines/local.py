"""Continuous batching over a Hugging Face model with a key-value cache."""

from typing import Literal

import torch

from steadyrl.base.errors import UserError
from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.engines.cache_memory import CacheMemory, cache_size, half_of_free_memory
from steadyrl.engines.continuous_batch import ContinuousBatch
from steadyrl.engines.engine_model import EngineModel
from steadyrl.engines.engine_settings import (
    EngineContext,
    EngineSettings,
    ModelEngineSettings,
    PositiveOrAuto,
)
from steadyrl.engines.model_engine import ModelEngine
from steadyrl.engines.protocol import Request
from steadyrl.engines.slot_probe import slot_cache_unsupported_reason
from steadyrl.policies.attention_masks import AttentionMasks
from steadyrl.policies.probes import unsupported_reason
from steadyrl.records.completion import Completion
from steadyrl.records.weight_source import WeightSource

PREFILL_POSITIONS = 1 << 14
"""That a pass over prompts computes at most, padding included."""


class LocalEngineSettings(ModelEngineSettings):
    """Continuous batching with a key-value cache."""

    name: Literal["local"] = "local"

    max_running: PositiveOrAuto = 512
    """Maximum number of sequences decoded concurrently. auto: as many as `cache_memory` holds at
    their full length."""

    cache_memory: PositiveOrAuto = "auto"
    """Memory for keys and values in MiB. auto: half of what is free when the run starts, a number
    that its config.yaml then holds. Where all sequences do not fit at their full length, keys and
    values are kept in pages, which is slower, and the last sequences begin again when these run
    out."""

    def make(self, context: EngineContext) -> "LocalEngine":
        """The engine.

        Raises:
            UserError: its model cannot be sampled in batches with a cache.
        """
        running, memory = self.max_running, self.cache_memory
        return LocalEngine(
            self.engine_model(context),
            max_running=None if running == "auto" else running,
            cache_memory=None if memory == "auto" else memory << 20,
            progress=context.progress,
        )

    def resolve(self, device: torch.device) -> "LocalEngineSettings":
        """The settings with a number of MiB for keys and values."""
        if self.cache_memory != "auto":
            return self
        memory = max(1, half_of_free_memory(device) >> 20)
        return self.model_copy(update={"cache_memory": memory})

    def resolve_from(self, began: EngineSettings) -> "LocalEngineSettings":
        """The settings with the memory for keys and values with which the run `began`."""
        if self.cache_memory != "auto" or not isinstance(began, LocalEngineSettings):
            return self
        return self.model_copy(update={"cache_memory": began.cache_memory})


class LocalEngine(ModelEngine):
    """A rollout engine in this process.

    Args:
        model: The engine's copy of the policy.
        max_running: Sequences written at the same time; None: as many as the memory for keys and
            values holds at their full length.
        cache_memory: Bytes for keys and values; None: half of what is free now.
        prefill_positions: Of prompts that are computed in one pass, padding included. A longer
            prompt has a pass of its own.
        progress: Hears of every pass how many answers and tokens are written.

    Raises:
        UserError: the model keeps a state that is not keys and values, takes no positions, or
            computes something else when sequences of different lengths are written at once.
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

    def submit(self, request: Request) -> int:
        """Takes a request; returns the number under which its answers come."""
        self._model.check(request)
        self._memory.check(request)
        self._generated.start(request, first=not self._requests)
        number = self._submitted
        self._submitted += 1
        self._requests[number] = request
        self._add(number, request)
        return number

    def step(self) -> dict[int, list[Completion]]:
        """Writes a token to every answer that is under way."""
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
        """Forgets a request."""
        if self._requests.pop(number, None) is not None and self._batch is not None:
            with torch.inference_mode(not self._model.needs_versions), torch.no_grad():
                self._batch.remove(number)
            self._free_batch()

    async def sync(self, weights: WeightSource) -> None:
        """Takes over the weights of a learner. Answers that are under way begin again."""
        self._model.sync(weights)
        self._batch = None
        for number, request in self._requests.items():
            self._add(number, request)

    def _add(self, number: int, request: Request) -> None:
        if self._batch is None:
            self._batch = ContinuousBatch(
                self._model, self._masks, self._memory, prefill_positions=self._prefill_positions
            )
        self._batch.add(number, request)

    def _free_batch(self) -> None:
        """Frees keys and values where no request is under way."""
        if not self._requests:
            self._batch = None


def _suggest_reference(reason: str) -> UserError:
    return UserError(f"{reason} Use the engine 'reference' for it.")
