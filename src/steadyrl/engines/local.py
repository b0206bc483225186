"""Continuous batching over a Hugging Face model with a key-value cache."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from steadyrl.base.errors import UserError
from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.engines.cache_memory import cache_size, half_of_free_memory, plan_cache
from steadyrl.engines.continuous_batch import ContinuousBatch, longest
from steadyrl.engines.engine_model import EngineModel
from steadyrl.engines.protocol import Request, Sampling
from steadyrl.engines.scheduler import WaitingLine
from steadyrl.engines.slot_probe import obstacle_to_slots
from steadyrl.policies.attention_masks import AttentionMasks
from steadyrl.policies.probes import obstacle
from steadyrl.policies.reach import Reach
from steadyrl.records.completion import Completion

PREFILL_POSITIONS = 1 << 14
"""That a pass over prompts computes at most, padding included."""


class LocalEngine:
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
        self._model = model
        self._max_running = max_running
        self._cache_memory = (
            half_of_free_memory(model.device) if cache_memory is None else cache_memory
        )
        self._prefill_positions = prefill_positions
        self._progress = progress
        try:
            self._masks = AttentionMasks(model.model)
        except UserError as error:
            raise _use_the_reference(str(error)) from error
        reason = obstacle(obstacle_to_slots, model.model)
        if reason is not None:
            raise _use_the_reference(reason)
        self._cache_size = cache_size(model, self._masks.window_of)

    @property
    def policy_version(self) -> int:
        """Version of the weights loaded last."""
        return self._model.policy_version

    @property
    def max_positions(self) -> int | None:
        """Tokens that a prompt and its answer may have together."""
        return self._model.max_positions

    @property
    def reach(self) -> Reach | None:
        """What arrived of the trainer's movement between the last two loads."""
        return self._model.reach

    def load_weights(self, weights: Mapping[str, Tensor], version: int) -> None:
        """Takes over the trainer's weights. No keys or values outlive a `generate`."""
        self._model.load_weights(weights, version)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """The completions of each request, in order."""
        self._model.check(requests, sampling)
        # Leaving inference mode turns gradients on again: no_grad is the inner one.
        with torch.inference_mode(not self._model.needs_versions), torch.no_grad():
            return self._generate(requests, sampling)

    def _generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        waiting = WaitingLine(requests, sampling)
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
        answers, tokens = len(waiting), 0
        most_tokens = answers * sampling.max_new_tokens
        while len(waiting) or batch.slots.running:
            before = len(waiting)
            batch.admit(waiting)
            tokens += before - len(waiting) + batch.slots.running
            batch.decode(waiting)
            finished = answers - len(waiting) - batch.slots.running
            self._progress.advance(
                "answers", finished, answers, tokens=tokens, most_tokens=most_tokens
            )
        return batch.completions()


def _use_the_reference(reason: str) -> UserError:
    return UserError(f"{reason} Use the engine 'reference' for it.")
