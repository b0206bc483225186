"""Continuous batching over a Hugging Face model with a key-value cache."""

from itertools import groupby
from typing import Literal

import torch

from steadyrl.base.errors import UserError
from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.engines.cache_memory import cache_size, half_of_free_memory, plan_cache
from steadyrl.engines.continuous_batch import ContinuousBatch, longest
from steadyrl.engines.engine_model import EngineModel
from steadyrl.engines.engine_settings import (
    EngineParts,
    EngineSettings,
    ModelEngineSettings,
    PositiveOrAuto,
)
from steadyrl.engines.model_engine import ModelEngine
from steadyrl.engines.protocol import Request
from steadyrl.engines.scheduler import WaitingLine
from steadyrl.engines.slot_probe import slot_cache_unsupported_reason
from steadyrl.policies.attention_masks import AttentionMasks
from steadyrl.policies.probes import unsupported_reason
from steadyrl.records.completion import Completion

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

    def make(self, parts: EngineParts) -> "LocalEngine":
        """The engine.

        Raises:
            UserError: its model cannot be sampled in batches with a cache.
        """
        running, memory = self.max_running, self.cache_memory
        return LocalEngine(
            self.engine_model(parts),
            max_running=None if running == "auto" else running,
            cache_memory=None if memory == "auto" else memory << 20,
            progress=parts.progress,
        )

    def decided(self, device: torch.device) -> "LocalEngineSettings":
        """The settings with a number of MiB for keys and values."""
        if self.cache_memory != "auto":
            return self
        memory = max(1, half_of_free_memory(device) >> 20)
        return self.model_copy(update={"cache_memory": memory})

    def as_decided(self, began: EngineSettings) -> "LocalEngineSettings":
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
        self._max_running = max_running
        self._cache_memory = (
            half_of_free_memory(model.device) if cache_memory is None else cache_memory
        )
        self._prefill_positions = prefill_positions
        self._requests: dict[int, Request] = {}
        self._submitted = 0
        try:
            self._masks = AttentionMasks(model.model)
        except UserError as error:
            raise _use_the_reference(str(error)) from error
        reason = unsupported_reason(slot_cache_unsupported_reason, model.model)
        if reason is not None:
            raise _use_the_reference(reason)
        self._cache_size = cache_size(model, self._masks.window_of)

    def submit(self, request: Request) -> int:
        """Takes a request; returns the number under which its answers come."""
        self._model.check(request)
        self._written.ask(request, first=not self._requests)
        number = self._submitted
        self._submitted += 1
        self._requests[number] = request
        return number

    def withdraw(self, number: int) -> None:
        """Forgets a request."""
        self._requests.pop(number, None)

    def step(self) -> dict[int, list[Completion]]:
        """Writes the answers to all requests."""
        asked, self._requests = self._requests, {}
        answers: dict[int, list[Completion]] = {}
        for _, items in groupby(asked.items(), key=lambda item: item[1].sampling):
            numbers, requests = zip(*items, strict=True)
            # Leaving inference mode turns gradients on again: no_grad is the inner one.
            with torch.inference_mode(not self._model.needs_versions), torch.no_grad():
                answers |= zip(numbers, self._generate(list(requests)), strict=True)
        return answers

    def _generate(self, requests: list[Request]) -> list[list[Completion]]:
        sampling = requests[0].sampling
        waiting = WaitingLine(requests)
        if not len(waiting):
            return [[] for _ in requests]
        plan = plan_cache(
            self._cache_size,
            self._cache_memory,
            answers=len(waiting),
            capacity=longest(requests, sampling),
            max_running=self._max_running,
        )
        batch = ContinuousBatch(
            self._model,
            self._masks,
            requests,
            sampling,
            plan=plan,
            prefill_positions=self._prefill_positions,
        )
        while left := len(waiting) + batch.slots.running:
            before = len(waiting)
            batch.admit(waiting)
            tokens = before - len(waiting) + batch.slots.running
            batch.decode(waiting)
            done = left - len(waiting) - batch.slots.running
            self._written.report(answers=done, tokens=tokens)
        return batch.completions()


def _use_the_reference(reason: str) -> UserError:
    return UserError(f"{reason} Use the engine 'reference' for it.")
