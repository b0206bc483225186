"""Tokens that an engine would most probably have sampled, with their log-probabilities.

An expectation over what the engine samples needs more than the log-probability of the one token
that it did sample. So an engine may record its most probable tokens at each place, of which the
trainer computes its own log-probabilities.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """The `K` most probable tokens of an engine in the place of each of `N` sampled tokens.

    Example:
        Candidates(ids=torch.tensor([[3, 5]]), logprobs=torch.tensor([[-0.1, -2.5]]))
    """

    ids: Int[Tensor, "N K"]

    logprobs: Float[Tensor, "N K"]
    """Log-probabilities in the distribution that the token was sampled from: log mu_old."""

    old_logprobs: Float[Tensor, "N K"] | None = None
    """log pi_old, from the trainer before the update. None: not scored yet."""

    @classmethod
    def joined(cls, parts: Sequence["Candidates"]) -> "Candidates":
        """The candidates of the tokens of all `parts`, in order."""
        old = [part.old_logprobs for part in parts if part.old_logprobs is not None]
        return cls(
            ids=torch.cat([part.ids for part in parts]),
            logprobs=torch.cat([part.logprobs for part in parts]),
            old_logprobs=torch.cat(old) if len(old) == len(parts) else None,
        )

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str) -> "Candidates":
        """The same on `device`."""
        old = self.old_logprobs
        return Candidates(
            ids=self.ids.to(device),
            logprobs=self.logprobs.to(device),
            old_logprobs=None if old is None else old.to(device),
        )

    def first(self, tokens: int) -> "Candidates":
        """Those of the first `tokens` tokens."""
        old = self.old_logprobs
        return Candidates(
            ids=self.ids[:tokens],
            logprobs=self.logprobs[:tokens],
            old_logprobs=None if old is None else old[:tokens],
        )


def with_old_logprobs(
    candidates: Sequence[Candidates],
    parts: Iterable[tuple[Int[Tensor, " _b"], Float[Tensor, "_n _K"]]],
) -> tuple[Candidates, ...]:
    """The candidates of each row, with log-probabilities of the trainer.

    Args:
        parts: Rows, and the log-probabilities of their candidates, one row after another.
    """
    scored = list(candidates)
    for rows, values in parts:
        own = rows.tolist()
        counts = [len(candidates[row]) for row in own]
        for row, old in zip(own, values.split(counts), strict=True):
            scored[row] = replace(candidates[row], old_logprobs=old)
    return tuple(scored)
