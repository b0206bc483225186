"""Noise on the choice of experts, to control how much routing differs from engine to trainer.

Each top-k over experts chooses by `log(score) + scale * g` with standard Gaussian `g`; the gate
weights of the chosen experts stay those of the live scores. Scores that are logits, some of them
negative, are perturbed as they are: both shift the logarithm of the experts' probabilities.

The noise is a hash of the scores, the layer and a seed. It is fresh for every token and context,
and a run that repeats to the bit repeats with the same noise.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.overrides import TorchFunctionMode

from steadyrl.policies.router_choice import Router, RouterChoice, chooses_experts

GOLDEN_RATIO = -7046029254386353131
"""0x9E3779B97F4A7C15 as a signed number: the increment of SplitMix64."""

MULTIPLIERS = (-4658895280553007687, -7723592293110705685)
"""Multipliers of SplitMix64's finalizer, as signed numbers."""


class RoutingNoise:
    """Perturbs the expert choices of a model's routers.

    Args:
        scale: Standard deviation of the noise on the log scores, at least 0.
        seed: Seed that determines the noise together with the scores.
    """

    def __init__(self, scale: float, seed: int) -> None:
        self.scale = scale
        self._seed = seed

    def route(
        self, layer: int, choice: RouterChoice, router: Router, *args: Any, **kwargs: Any
    ) -> Any:
        """Calls `router` with a perturbed choice."""
        with _PerturbTopK(choice, self.scale, self._seed + layer * GOLDEN_RATIO):
            return router(*args, **kwargs)


class _PerturbTopK(TorchFunctionMode):
    """Perturbs the `topk` over a router's experts."""

    def __init__(self, choice: RouterChoice, scale: float, seed: int) -> None:
        super().__init__()
        self._choice = choice
        self._scale = scale
        self._seed = seed

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func not in (torch.topk, Tensor.topk):
            return result
        scores: Tensor = args[0] if args else kwargs["input"]
        count = result.indices.shape[-1]
        if not chooses_experts(self._choice, scores, count):
            return result
        live = scores.detach().float()
        levels = live if bool((live < 0).any()) else live.log()
        noise = gaussian_hash(live.flatten(0, -2), self._seed).view_as(live)
        experts = (levels + self._scale * noise).topk(count, dim=-1).indices
        return torch.return_types.topk((scores.gather(-1, experts), experts))


def gaussian_hash(rows: Float[Tensor, "N E"], seed: int) -> Float[Tensor, "N E"]:
    """Standard Gaussian numbers that are a function of each row's bits and the seed."""
    bits = rows.contiguous().view(torch.int32).long()
    columns = torch.arange(1, rows.shape[-1] + 1, device=rows.device) * GOLDEN_RATIO
    keys = _mix(_mix(bits + columns).sum(dim=-1, keepdim=True) + _signed(seed))
    uniform = (_logical_shift(_mix(keys + columns), 40).double() + 0.5) / 2.0**24
    return (torch.erfinv(2 * uniform - 1) * 2**0.5).to(rows.dtype)


def _mix(values: Int[Tensor, "*S"]) -> Int[Tensor, "*S"]:
    """SplitMix64's finalizer."""
    for shift, multiplier in zip((30, 27), MULTIPLIERS, strict=True):
        values = (values ^ _logical_shift(values, shift)) * multiplier
    return values ^ _logical_shift(values, 31)


def _logical_shift(values: Int[Tensor, "*S"], bits: int) -> Int[Tensor, "*S"]:
    return (values >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    """`value` modulo 2^64, as a signed number of 64 bits."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)
