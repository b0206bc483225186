"""Expert choices of a Mixture-of-Experts model.

engine -> Completion -> Trajectory -> TokenBatch -> micro-batch     `Routing`: ragged, not copied
forward pass that replays the choices, on its device                `PaddedRouting`
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain

import torch
from jaxtyping import Bool, Int, Integer
from torch import Tensor

Pieces = tuple[Integer[Tensor, "_S L K"], ...]
"""Choices of one sequence at its known positions, in order, in one tensor or several."""


_MIXED_AT_A_TIME = 1 << 14
"""Tokens per chunk of the checksum, which takes about 50 bytes of memory per token."""


class RoutingReplay(StrEnum):
    """Source of the trainer's expert choices (arXiv:2512.01374, "Routing Replay")."""

    NONE = "none"
    """The trainer routes live."""

    R2 = "r2"
    """The trainer's choices under the old weights (vanilla routing replay)."""

    R3 = "r3"
    """The rollout engine's choices (rollout routing replay)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddedRouting:
    """Expert choices to replay in one forward pass over `B` x `T` tokens."""

    experts: Integer[Tensor, "B T L K"]
    """Index of each chosen expert; 0 at unknown positions."""

    known: Bool[Tensor, "B T"]
    """Positions at which the choice is replayed. The others are routed live."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """Expert choices of `B` sequences of `T` positions in `L` MoE layers, `K` experts per token.

    Position `t` holds the choices of the forward pass over `tokens[:, t]`. (Log-probabilities at
    `t` are those of predicting `tokens[:, t]`, so they depend on the positions before `t`.)

    Only known positions use memory, and sequences are selected and joined without copying.

    Example:
        Routing.of(experts=torch.zeros(1, 3, 2, 4, dtype=torch.uint8),
                   known=torch.ones(1, 3).bool(), tokens=torch.tensor([[5, 6, 7]]))
    """

    experts: tuple[Pieces, ...]
    """Per sequence, the indices of the chosen experts at its known positions, in the order of the
    router's top-k. Any integer type is allowed; this package records `expert_dtype`."""

    known: Bool[Tensor, "B T"]
    """Positions whose choices were recorded. Padding and the last sampled token have none."""

    fed_tokens: Int[Tensor, " B"]
    """`fed_tokens_checksum` of the input tokens at the known positions."""

    @classmethod
    def of(
        cls,
        experts: Integer[Tensor, "B T L K"],
        known: Bool[Tensor, "B T"],
        tokens: Int[Tensor, "B T"],
    ) -> "Routing":
        """The choices at the `known` positions of `tokens`."""
        packed = experts.flatten(0, 1) if bool(known.all()) else experts[known]
        return cls(
            experts=_by_row(packed, known),
            known=known,
            fed_tokens=fed_tokens_checksum(tokens, known),
        )

    @property
    def nbytes(self) -> int:
        """Bytes used by the choices."""
        return sum(piece.nbytes for piece in chain.from_iterable(self.experts))

    def rows(self, index: Int[Tensor, " b"], length: int) -> "Routing":
        """The sequences `index`, cut to `length` positions; all known positions must remain."""
        return Routing(
            experts=tuple(self.experts[number] for number in index.tolist()),
            known=self.known[index, :length],
            fed_tokens=self.fed_tokens[index],
        )

    def to(self, device: torch.device) -> "Routing":
        """The same choices on `device`."""
        known = self.known.to(device)
        if known is self.known:
            return self
        return Routing(
            experts=_by_row(self._packed().to(device), self.known),
            known=known,
            fed_tokens=self.fed_tokens.to(device),
        )

    def at(self, positions: Bool[Tensor, "B T"]) -> Integer[Tensor, "N L K"]:
        """The choices at `positions`, sequence after sequence.

        Raises:
            RuntimeError: a position is not known.
        """
        unknown = int((positions & ~self.known).sum())
        if unknown:
            raise RuntimeError(
                f"Routing is missing at {unknown} of {int(positions.sum())} positions. Record the "
                "routing of every position."
            )
        return self._packed()[positions[self.known]]

    def padded(self) -> PaddedRouting:
        """The same choices as padded tensors, for a forward pass."""
        packed = self._packed()
        if len(packed) == self.known.numel():
            experts = packed.unflatten(0, self.known.shape)
        else:
            experts = packed.new_zeros(*self.known.shape, *packed.shape[1:])
            experts[self.known] = packed
        return PaddedRouting(experts=experts, known=self.known)

    def _packed(self) -> Integer[Tensor, "N L K"]:
        """All known choices, sequence after sequence."""
        pieces = list(chain.from_iterable(self.experts))
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def _by_row(packed: Integer[Tensor, "N L K"], known: Bool[Tensor, "B T"]) -> tuple[Pieces, ...]:
    return tuple((row,) for row in packed.split(known.sum(dim=1).tolist()))


def join_routing(parts: Sequence[tuple[Int[Tensor, " _b"], Routing]], length: int) -> Routing:
    """Joins the routings of micro-batches into the routing of a batch with `length` positions.

    Args:
        parts: Row indices of each micro-batch in the batch, and its routing. Every row is in
            exactly one micro-batch.
    """
    order = torch.cat([index for index, _ in parts]).argsort()
    pieces = list(chain.from_iterable(part.experts for _, part in parts))
    known = [torch.nn.functional.pad(p.known, (0, length - p.known.shape[1])) for _, p in parts]
    return Routing(
        experts=tuple(pieces[place] for place in order.tolist()),
        known=torch.cat(known)[order],
        fed_tokens=torch.cat([part.fed_tokens for _, part in parts])[order],
    )


def expert_dtype(num_experts: int) -> torch.dtype:
    """The smallest integer type that holds an index of `num_experts` experts."""
    return torch.uint8 if num_experts <= 256 else torch.int16


def fed_tokens_checksum(
    tokens: Int[Tensor, "B T"], known: Bool[Tensor, "B T"]
) -> Int[Tensor, " B"]:
    """A checksum per row of the tokens at its known positions.

    It is computed over the model's input when routing is recorded, and over the tokens of the
    forward pass when routing is replayed. A shift by one position, two swapped rows or a lost token
    change it, except in about one of 2**60 cases. Positions are counted over known tokens, so left
    padding does not matter. The int64 arithmetic wraps around on purpose.
    """
    if tokens.numel() > _MIXED_AT_A_TIME and len(tokens) > 1:
        rows = max(1, _MIXED_AT_A_TIME // tokens.shape[1])
        parts = zip(tokens.split(rows), known.split(rows), strict=True)
        return torch.cat([fed_tokens_checksum(*part) for part in parts])
    positions = known.long().cumsum(dim=1)
    return torch.where(known, fed_token_checksums(tokens, positions), 0).sum(dim=1)


def fed_token_checksums(
    tokens: Int[Tensor, "*N"], positions: Int[Tensor, "*N"]
) -> Int[Tensor, "*N"]:
    """The term that each known token adds to its row's checksum; positions are counted from 1."""
    mixed = (tokens.long() + 1) * -7046029254386353131 + positions * 2862933555777941757
    mixed = (mixed ^ (mixed >> 29)) * -4658895280553007687
    mixed = mixed ^ (mixed >> 32)
    return mixed * (2 * positions + 1)
