"""The policy as vLLM serves it: configuration, end tokens, stream of weights."""

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

from steadyrl.engines.vllm.outputs import MoeShape
from steadyrl.policies.checkpoint_names import to_checkpoint_names
from steadyrl.policies.compat import dtypes_by_pattern
from steadyrl.policies.policy import Policy
from steadyrl.policies.positions import most_positions
from steadyrl.policies.rounding import Rounding, round_into
from steadyrl.policies.routers import router_layers
from steadyrl.records.weight_source import StateDictWeights, WeightSource

_MOST_NAMED = 5
"""Names of tensors in a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightRounding:
    """How float32 weights become those that the engine computes with."""

    dtype: torch.dtype
    rounding: Rounding
    seed: int
    kept: tuple[str, ...] = ()
    """Patterns of the names of weights that stay in float32."""

    def __call__(self, name: str, tensor: Tensor) -> Tensor:
        """A copy of the weight `name` in the engine's type: vLLM keeps it for a while."""
        kept = any(re.search(pattern, name) for pattern in self.kept)
        if kept or not tensor.is_floating_point():
            return tensor.detach().clone()
        target = torch.empty_like(tensor, dtype=self.dtype, requires_grad=False)
        round_into(target, tensor.detach(), self.rounding, name=name, seed=self.seed)
        return target


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """What vLLM has to know of a policy."""

    config: PreTrainedConfig
    end_token_ids: set[int]
    moe: MoeShape | None
    """Where its routers are; None for a dense model, and for one whose routing is not recorded."""

    max_positions: int | None
    shapes: Mapping[str, tuple[int, ...]]
    """Shape of each weight, under its name in the checkpoint format."""

    round_weight: WeightRounding

    @classmethod
    def of(
        cls, policy: Policy, *, dtype: torch.dtype, rounding: Rounding, seed: int
    ) -> "ServedModel":
        """What vLLM has to know of `policy`, to compute in `dtype`."""
        model = policy.model
        kept = [name for name, type_ in dtypes_by_pattern(model, dtype).items() if type_ != dtype]
        ends = {token for token in policy.end_token_ids if token < policy.vocabulary_size}
        config = deepcopy(model.config)
        config.architectures = [type(model).__name__]
        return cls(
            config=config,
            end_token_ids=ends,
            moe=_moe_shape(policy),
            max_positions=most_positions(model),
            shapes={name: tuple(tensor.shape) for name, tensor in _outline(model)},
            round_weight=WeightRounding(
                dtype=dtype, rounding=rounding, seed=seed, kept=tuple(kept)
            ),
        )

    @property
    def nbytes(self) -> int:
        """Size of the weights in the engine's type."""
        numbers = sum(math.prod(shape) for shape in self.shapes.values())
        return numbers * self.round_weight.dtype.itemsize

    @property
    def adapted_modules(self) -> list[str]:
        """Names of the modules that an adapter may change, as q_proj: all but head and routers.

        vLLM on the CPU cannot score prompts when the head is among them.
        """
        matrices = [name.split(".") for name, shape in self.shapes.items() if len(shape) == 2]
        inside = {parts[-2] for parts in matrices if parts[-1] == "weight" and "layers" in parts}
        return sorted(inside - {"gate", "router"})

    def stream(self, weights: WeightSource) -> Iterator[tuple[str, Tensor]]:
        """All weights, rounded, in the names of the checkpoint format.

        Raises:
            ValueError: a name or a shape is not the model's; at the end, a weight was missing.
        """
        missing = dict.fromkeys(self.shapes)
        for name, tensor in weights.tensors("checkpoint"):
            if name not in missing:
                twice = "came twice" if name in self.shapes else "is not one of the model's"
                raise ValueError(f"The weight {name} {twice}.")
            if tuple(tensor.shape) != self.shapes[name]:
                raise ValueError(
                    f"Weight {name} has shape {tuple(tensor.shape)}, the model expects "
                    f"{self.shapes[name]}."
                )
            del missing[name]
            yield name, self.round_weight(name, tensor)
        if missing:
            shown = ", ".join(list(missing)[:_MOST_NAMED])
            raise ValueError(f"{len(missing)} weights are missing, as {shown}.")


class Checksummed:
    """A stream of tensors whose `checksum` is known when it has passed.

    Weights that have moved, and be it by one bit, have another one, but for rare coincidences.
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


def weights_of(policy: Policy, version: int = 0) -> StateDictWeights:
    """The present weights of a policy of this process."""
    model = policy.model

    def to_checkpoint(tensors: Any) -> Iterator[tuple[str, Tensor]]:
        return to_checkpoint_names(model, tensors)

    return StateDictWeights(state=model.state_dict(), version=version, to_checkpoint=to_checkpoint)


def completion_seed(seed: int, index: int) -> int:
    """Seed of answer `index` to a request with `seed`."""
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
    """The weights without their values."""
    state = model.state_dict()
    return to_checkpoint_names(
        model, ((name, torch.empty_like(tensor, device="meta")) for name, tensor in state.items())
    )
