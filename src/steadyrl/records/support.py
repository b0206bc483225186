"""Tokens that truncated sampling could draw, recorded by an engine and replayed by the trainer.

With top-p or top-k, token y is drawn from softmax(z) restricted to a set S, its support:

    log mu(y) = z_y - logsumexp_{v in S} z_v

The trainer scores the same distribution if it restricts its own softmax to the same set.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Support:
    """The supports of `N` sampled tokens, with `K` ids together.

    Example:
        Support.of([torch.tensor([3, 5]), None])  # of two tokens, the second from the whole softmax
    """

    ids: Int[Tensor, " K"]
    """Token ids in the supports, one token after another."""

    counts: Int[Tensor, " N"]
    """Number of ids of each token; 0: it was sampled from the whole vocabulary."""

    @classmethod
    def of(cls, sets: Sequence[Int[Tensor, " _"] | None]) -> "Support":
        """The supports of tokens, by the ids in each; None: the whole vocabulary."""
        given = [ids for ids in sets if ids is not None]
        return cls(
            torch.cat(given) if given else torch.zeros(0, dtype=torch.int32),
            torch.tensor([0 if ids is None else len(ids) for ids in sets], dtype=torch.long),
        )

    @classmethod
    def whole(cls, tokens: int) -> "Support":
        """That of tokens sampled from the whole vocabulary."""
        return cls.of([None] * tokens)

    @classmethod
    def joined(cls, parts: Sequence["Support"]) -> "Support":
        """The supports of the tokens of all `parts`, in order."""
        return cls(torch.cat([p.ids for p in parts]), torch.cat([p.counts for p in parts]))

    def __len__(self) -> int:
        return len(self.counts)

    def to(self, device: torch.device) -> "Support":
        """The same on `device`."""
        return Support(self.ids.to(device), self.counts.to(device))

    def first(self, tokens: int) -> "Support":
        """Those of the first `tokens` tokens."""
        counts = self.counts[:tokens]
        return Support(self.ids[: int(counts.sum())], counts)

    def split(self, tokens: int) -> list["Support"]:
        """The supports of `tokens` tokens at a time."""
        counts = self.counts.split(tokens)
        ids = self.ids.split([int(part.sum()) for part in counts])
        return [Support(*part) for part in zip(ids, counts, strict=True)]

    def excluded(self, vocabulary: int) -> Bool[Tensor, "N V"]:
        """Tokens of a vocabulary of that size that could not be drawn, for each sampled token."""
        rows = torch.arange(len(self), device=self.ids.device).repeat_interleave(self.counts)
        excluded = (self.counts > 0)[:, None].repeat(1, vocabulary)
        excluded[rows, self.ids.long()] = False
        return excluded
