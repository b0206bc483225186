"""The counted tokens of paired rows, side by side."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from steadyrl.analysis.dumps.record import UNKNOWN, DumpRow, Pairing
from steadyrl.objectives import sets_differ

IMPOSSIBLE = -100.0
"""Log-probability at which nothing is ever sampled: programs write -9999 and the like for -inf."""


@dataclass(frozen=True)
class Counted:
    """`N` tokens that both sides counted, with finite log-probabilities of both."""

    pairing: Pairing

    quantized_engine: bool = False
    """Whether the engine is known to round its weights to 8 bits or fewer."""

    @cached_property
    def places(self) -> Int[ndarray, "M 2"]:
        """Row and position of every counted token, finite or not."""
        found = [
            np.stack([np.full(int(row.mask.sum()), number), np.flatnonzero(row.mask)], axis=1)
            for number, row in enumerate(self.pairing.rows)
        ]
        return np.concatenate(found) if found else np.empty((0, 2), dtype=int)

    def column(self, name: str) -> Float[ndarray, " M"] | None:
        """Values of a column of all rows, at every counted token."""
        parts = [getattr(row, name) for row in self.pairing.rows]
        if not parts or any(part is None for part in parts):
            return None
        pairs = zip(parts, self.pairing.rows, strict=True)
        return np.concatenate([part[row.mask] for part, row in pairs])

    @cached_property
    def finite(self) -> Bool[ndarray, " M"]:
        """Counted tokens whose log-probabilities are finite on both sides, and no stand-ins for
        -inf, below which nothing is sampled.
        """
        rollout, trainer = self.column("rollout_logprobs"), self.column("trainer_logprobs")
        assert rollout is not None, "paired rows have both columns"
        assert trainer is not None, "paired rows have both columns"
        return is_sampled(rollout) & is_sampled(trainer)

    @cached_property
    def rollout(self) -> Float[ndarray, " N"]:
        """Log mu_old."""
        values = self.column("rollout_logprobs")
        assert values is not None
        return values[self.finite]

    @cached_property
    def trainer(self) -> Float[ndarray, " N"]:
        """Log pi_old."""
        values = self.column("trainer_logprobs")
        assert values is not None
        return values[self.finite]

    @cached_property
    def difference(self) -> Float[ndarray, " N"]:
        """log(pi_old / mu_old)."""
        return self.trainer - self.rollout

    @cached_property
    def entropy(self) -> Float[ndarray, " N"] | None:
        """The trainer's entropy; None if a row lacks it."""
        values = self.column("entropy")
        if values is None or not np.isfinite(values[self.finite]).all():
            return None
        return values[self.finite]

    @cached_property
    def row(self) -> Int[ndarray, " N"]:
        """Row of each token."""
        return self.places[self.finite, 0]

    @cached_property
    def position(self) -> Int[ndarray, " N"]:
        """Position of each token in its row."""
        return self.places[self.finite, 1]

    @cached_property
    def depth(self) -> Int[ndarray, " N"]:
        """Number of response tokens before each token."""
        starts = np.array([row.response_start for row in self.pairing.rows])
        return self.position - starts[self.row]

    @cached_property
    def token(self) -> Int[ndarray, " N"]:
        """Token ids."""
        rows = self.pairing.rows
        return np.concatenate([row.tokens[row.mask] for row in rows])[self.finite]

    @cached_property
    def contexts(self) -> Int[ndarray, " N"]:
        """Number of the text before each token: equal texts of different rows have one number."""
        numbers: dict[tuple[int, int], int] = {}
        whole = [self._prefixes(row, numbers) for row in self.pairing.rows]
        pairs = zip(whole, self.pairing.rows, strict=True)
        return np.concatenate([known[row.mask] for known, row in pairs])[self.finite]

    @staticmethod
    def _prefixes(row: DumpRow, numbers: dict[tuple[int, int], int]) -> Int[ndarray, " T"]:
        """A trie: a prefix is the number of the prefix before it, and a token."""
        known = np.empty(len(row.tokens), dtype=int)
        state = 0
        for place, token in enumerate(row.tokens.tolist()):
            known[place] = state
            state = numbers.setdefault((state, token), len(numbers) + 1)
        return known

    @cached_property
    def flips(self) -> Bool[ndarray, "N L"] | None:
        """Layers in which the pass that predicted the token used other experts in the trainer.

        None without routes of both sides. Unknown routes count as equal.
        """
        pairs = [(row.rollout_experts, row.trainer_experts, row) for row in self.pairing.rows]
        parts = []
        for engine, trainer, row in pairs:
            if engine is None or trainer is None:
                return None
            before = np.flatnonzero(row.mask) - 1
            known = (before >= 0) & ~_unknown(engine, before) & ~_unknown(trainer, before)
            differ = sets_differ(_tensor(engine[before]), _tensor(trainer[before])).numpy()
            parts.append(differ & known[:, None])
        return np.concatenate(parts)[self.finite] if parts else None


def is_sampled(values: Float[ndarray, " M"]) -> Bool[ndarray, " M"]:
    """Whether values can be log-probabilities of what was sampled."""
    found: ndarray = np.isfinite(values) & (values > IMPOSSIBLE)
    return found


def _unknown(experts: Int[ndarray, "T L K"], at: Int[ndarray, " M"]) -> Bool[ndarray, " M"]:
    return (experts[at] == UNKNOWN).any(axis=(1, 2))


def _tensor(values: ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))
