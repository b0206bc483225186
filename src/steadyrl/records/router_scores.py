"""Log-probabilities of experts under the routers of a model."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterScores:
    """What the routers of `L` layers say of `K` experts at each of `B` x `T` fed tokens.

    Position `t` holds what the pass over `tokens[:, t]` says, as in `Routing`.
    """

    experts: Integer[Tensor, "B T L K"]
    """The experts that were chosen when the scores were first taken."""

    logprobs: Float[Tensor, "B T L K"]
    """Log-probability of each of these experts among all experts of its layer."""

    @classmethod
    def joined(
        cls, parts: Sequence[tuple[Int[Tensor, " _b"], "RouterScores"]], shape: tuple[int, int]
    ) -> "RouterScores":
        """The scores of a batch of `shape` from those of micro-batches; 0 at what they lack.

        Args:
            parts: Row indices of each micro-batch in the batch, and its scores.
        """
        first = parts[0][1]
        experts = first.experts.new_zeros(*shape, *first.experts.shape[2:])
        logprobs = first.logprobs.new_zeros(*shape, *first.logprobs.shape[2:])
        for index, part in parts:
            length = part.experts.shape[1]
            experts[index, :length] = part.experts
            logprobs[index, :length] = part.logprobs
        return cls(experts=experts, logprobs=logprobs)

    def shift(self, now: "RouterScores") -> Float[Tensor, "B T"]:
        """Mean absolute change to `now` in the pass that predicts each token; 0 at the first."""
        moved = (now.logprobs - self.logprobs).abs().mean(dim=(2, 3))
        return nn.functional.pad(moved[:, :-1], (1, 0))

    def to(self, device: torch.device) -> "RouterScores":
        """The same scores on `device`."""
        return RouterScores(experts=self.experts.to(device), logprobs=self.logprobs.to(device))

    def rows(self, index: Int[Tensor, " b"], length: int) -> "RouterScores":
        """The rows `index`, cut to `length` positions."""
        return RouterScores(
            experts=self.experts[index, :length], logprobs=self.logprobs[index, :length]
        )
