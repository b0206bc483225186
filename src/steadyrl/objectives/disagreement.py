"""Routing disagreement: how often engine and trainer choose different sets of experts.

Source: arXiv:2510.11370, "router positions with different expert sets".
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from steadyrl.base.errors import UserError

_SORTED_SETS = 1 << 16
"""Expert sets per chunk of sorting, which takes at least 9 bytes of memory per index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingDisagreement:
    """Counts of tokens with different sets of experts. Counts of micro-batches can be added."""

    tokens: int
    """Number of compared tokens."""

    differing: Int[Tensor, " L"]
    """Tokens whose set differs, in each MoE layer."""

    differing_anywhere: int
    """Tokens whose set differs in at least one layer."""

    def __add__(self, other: "RoutingDisagreement") -> "RoutingDisagreement":
        return RoutingDisagreement(
            tokens=self.tokens + other.tokens,
            differing=self.differing + other.differing,
            differing_anywhere=self.differing_anywhere + other.differing_anywhere,
        )

    @property
    def per_layer(self) -> Float[Tensor, " L"]:
        """Fraction of tokens whose set differs, in each MoE layer."""
        return (self.differing.double() / self.tokens).float()

    @property
    def any_layer(self) -> float:
        """Fraction of tokens whose set differs in at least one layer."""
        return self.differing_anywhere / self.tokens

    @property
    def mean(self) -> float:
        """Fraction of (token, layer) pairs whose set differs."""
        return int(self.differing.sum()) / (self.tokens * len(self.differing))


def routing_disagreement(
    engine: Integer[Tensor, "N L K"], trainer: Integer[Tensor, "N L K"]
) -> RoutingDisagreement:
    """Disagreement of two routings of the same tokens. The order of experts is ignored.

    Raises:
        UserError: there are no tokens or no MoE layers.
    """
    if engine.numel() == 0:
        raise UserError(
            "Routing disagreement requires at least one token and one MoE layer, got shape "
            f"{tuple(engine.shape)} (tokens, layers, experts per token). Skip such batches."
        )
    differs = sets_differ(engine, trainer)
    return RoutingDisagreement(
        tokens=len(differs),
        differing=differs.sum(dim=0).cpu(),
        differing_anywhere=int(differs.any(dim=1).sum()),
    )


def sets_differ(
    one: Integer[Tensor, "N L K"], other: Integer[Tensor, "N L K"]
) -> Bool[Tensor, "N L"]:
    """Whether two routings of the same tokens choose different sets of experts, per layer.

    Only sets that differ as sequences are sorted, in chunks.
    """
    differs = (one != other).any(dim=-1)
    for places in differs.nonzero().split(_SORTED_SETS):
        token, layer = places.unbind(dim=1)
        sorted_sets = (experts[token, layer].sort(dim=-1).values for experts in (one, other))
        differs[token, layer] = torch.ne(*sorted_sets).any(dim=-1)
    return differs
