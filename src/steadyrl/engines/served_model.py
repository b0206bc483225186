"""Description of the policy for external engines: configuration, end tokens, stream of weights."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from steadyrl.engines.answers import MoeShape
from steadyrl.policies.checkpoint_names import to_checkpoint_names
from steadyrl.policies.compat import dtypes_by_pattern
from steadyrl.policies.merged_weights import MergedWeights, base_weights
from steadyrl.policies.policy import Policy
from steadyrl.policies.positions import max_positions
from steadyrl.policies.rounding import Rounding, round_into
from steadyrl.policies.routers import router_layers
from steadyrl.records.weight_source import StateDictWeights, WeightSource

_MOST_NAMED = 5
"""Maximum number of tensor names in an error message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightRounding:
    """Conversion of the learner's weights to the engine's data type."""

    dtype: torch.dtype
    rounding: Rounding
    seed: int
    kept: tuple[str, ...] = ()
    """Name patterns of weights that stay in float32."""

    def __call__(self, name: str, tensor: Tensor) -> Tensor:
        """A copy of weight `name` in the engine's type; vLLM holds on to it for a while."""
        kept = any(re.search(pattern, name) for pattern in self.kept)
        if kept or not tensor.is_floating_point():
            return tensor.detach().clone()
        target = torch.empty_like(tensor, dtype=self.dtype, requires_grad=False)
        round_into(target, tensor.detach(), self.rounding, name=name, seed=self.seed)
        return target


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """Properties of a policy that an engine depends on."""

    config: PreTrainedConfig
    end_token_ids: set[int]
    moe: MoeShape | None
    """Positions of its routers; None for a dense model, and if routing is not recorded."""

    max_positions: int | None
    shapes: Mapping[str, tuple[int, ...]]
    """Shape of each weight by its name in the checkpoint format."""

    round_weight: WeightRounding

    @classmethod
    def of(
        cls, policy: Policy, *, dtype: torch.dtype, rounding: Rounding, seed: int
    ) -> "ServedModel":
        """Describes `policy` to an engine that computes in `dtype`."""
        model = policy.model
        kept = [name for name, type_ in dtypes_by_pattern(model, dtype).items() if type_ != dtype]
        ends = {token for token in policy.end_token_ids if token < policy.vocabulary_size}
        config = deepcopy(model.config)
        config.architectures = [type(model).__name__]
        return cls(
            config=config,
            end_token_ids=ends,
            moe=_moe_shape(policy),
            max_positions=max_positions(model),
            shapes={name: tuple(tensor.shape) for name, tensor in _outline(model)},
            round_weight=WeightRounding(
                dtype=dtype, rounding=rounding, seed=seed, kept=tuple(kept)
            ),
        )

    @property
    def nbytes(self) -> int:
        """Size of the weights in the engine's data type, in bytes."""
        numbers = sum(math.prod(shape) for shape in self.shapes.values())
        return numbers * self.round_weight.dtype.itemsize

    @property
    def adapted_modules(self) -> list[str]:
        """Names of the modules that an adapter may change, e.g. q_proj: all but head and routers.

        vLLM on the CPU cannot score prompts when the head is among them.
        """
        matrices = [name.split(".") for name, shape in self.shapes.items() if len(shape) == 2]
        inside = {parts[-2] for parts in matrices if parts[-1] == "weight" and "layers" in parts}
        return sorted(inside - {"gate", "router"})

    def stream(self, weights: WeightSource) -> Iterator[tuple[str, Tensor]]:
        """All weights in the engine's data type, under the names of the checkpoint format.

        Raises:
            ValueError: a name or shape does not belong to the model, or a weight is missing.
        """
        missing = dict.fromkeys(self.shapes)
        for name, tensor in weights.tensors("checkpoint"):
            if name not in missing:
                reason = "came twice" if name in self.shapes else "does not belong to the model"
                raise ValueError(f"Weight {name} {reason}.")
            if tuple(tensor.shape) != self.shapes[name]:
                raise ValueError(
                    f"Weight {name} has shape {tuple(tensor.shape)}, the model expects "
                    f"{self.shapes[name]}."
                )
            del missing[name]
            yield name, self.round_weight(name, tensor)
        if missing:
            shown = ", ".join(list(missing)[:_MOST_NAMED])
            raise ValueError(f"{len(missing)} weights are missing, among them {shown}.")


class Checksummed:
    """A stream of tensors with a `checksum`, which is complete once the stream is exhausted.

    A change of a single bit changes it, except for rare collisions.
    """

    def __init__(self, tensors: Iterable[tuple[str, Tensor]]) -> None:
        self.checksum = 0
        self._tensors = tensors

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in self._tensors:
            bits = tensor.contiguous().flatten().view(torch.uint8)
            whole = bits[: len(bits) // 4 * 4].view(torch.int32)
            added = int(whole.sum(dtype=torch.int64)) + int(bits[whole.nbytes :].sum())
            self.checksum ^= hash((name, added))
            yield name, tensor


def weights_of(
    policy: Policy, version: int = 0, *, without_adapter: bool = False
) -> StateDictWeights:
    """The current weights of a policy in this process, with its adapter merged or left out."""
    model = policy.model

    def to_checkpoint(tensors: Any) -> Iterator[tuple[str, Tensor]]:
        return to_checkpoint_names(model, tensors)

    state = base_weights(model) if without_adapter else MergedWeights(model)
    return StateDictWeights(state=state, version=version, to_checkpoint=to_checkpoint)


def completion_seed(seed: int, index: int) -> int:
    """Seed of answer `index` to a request with seed `seed`."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0] >> 1)


def _moe_shape(policy: Policy) -> MoeShape | None:
    hook = policy.hook
    if hook is None:
        return None
    return MoeShape(
        layers=tuple(router_layers(policy.model)),
        num_experts=hook.num_experts,
        experts_per_token=hook.experts_per_token,
    )


def _outline(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Names and shapes of the weights, as tensors without data."""
    weights = base_weights(model).items()
    return to_checkpoint_names(
        model, ((name, torch.empty_like(tensor, device="meta")) for name, tensor in weights)
    )
