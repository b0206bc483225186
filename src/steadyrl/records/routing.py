"""Which experts a Mixture-of-Experts model chose, as a value."""

from dataclasses import dataclass
from enum import StrEnum

import torch
from jaxtyping import Bool, Int, Integer
from torch import Tensor


class RoutingReplay(StrEnum):
    """Whose expert choices the trainer uses (arXiv:2512.01374, "Routing Replay")."""

    NONE = "none"
    """The trainer's own, live."""

    R2 = "r2"
    """The trainer's own under the old weights (vanilla routing replay)."""

    R3 = "r3"
    """The rollout engine's (rollout routing replay)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """Expert choices of `B` sequences of `T` positions in `L` MoE layers with `K` experts a token.

    Row `t` speaks of the forward pass over `tokens[:, t]`. (Log-probabilities at `t` speak of
    predicting `tokens[:, t]`, so they depend on the rows before `t`.)

    Example:
        Routing(experts=torch.zeros(1, 3, 2, 4, dtype=torch.uint8), known=torch.ones(1, 3).bool(),
                fed_tokens=fed_tokens_checksum(tokens, known))
    """

    experts: Integer[Tensor, "B T L K"]
    """Index of each chosen expert, in the order of the router's top-k. Any integer type."""

    known: Bool[Tensor, "B T"]
    """Positions whose row was recorded. Padding and a sequence's last sampled token have none."""

    fed_tokens: Int[Tensor, " B"]
    """`fed_tokens_checksum` of the tokens that were fed when the known rows were recorded."""

    def rows(self, index: Int[Tensor, " b"], length: int) -> "Routing":
        """The sequences `index`, cut to `length` positions, which must hold every known row."""
        return Routing(
            experts=self.experts[index, :length],
            known=self.known[index, :length],
            fed_tokens=self.fed_tokens[index],
        )

    def to(self, device: torch.device) -> "Routing":
        """The same choices on `device`."""
        return Routing(
            experts=self.experts.to(device),
            known=self.known.to(device),
            fed_tokens=self.fed_tokens.to(device),
        )


def expert_dtype(num_experts: int) -> torch.dtype:
    """The smallest integer type that holds an index of `num_experts` experts."""
    return torch.uint8 if num_experts <= 256 else torch.int16


def fed_tokens_checksum(
    tokens: Int[Tensor, "B T"], known: Bool[Tensor, "B T"]
) -> Int[Tensor, " B"]:
    """A checksum of which token stands at which known position of each row.

    Whoever records routes computes it over what was fed to the model; whoever replays them over
    the tokens they are about to meet. A shift by one position, two rows exchanged or a token lost
    changes it, except for one case in about 2**60. Positions count known tokens, so padding on the
    left does not matter. int64 arithmetic wraps around, which is intended.
    """
    positions = known.long().cumsum(dim=1)
    mixed = (tokens.long() + 1) * -7046029254386353131 + positions * 2862933555777941757
    mixed = (mixed ^ (mixed >> 29)) * -4658895280553007687
    mixed = mixed ^ (mixed >> 32)
    return torch.where(known, mixed * (2 * positions + 1), 0).sum(dim=1)
