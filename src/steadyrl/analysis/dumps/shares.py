"""Where the mismatch sits: its share in parts of the tokens, and the tokens that carry most."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from steadyrl.analysis.dumps.counted import Counted

FIRST_TOKENS = 4
RARE = 0.1
TOP = 0.01
LARGEST = 10

_MANTISSA = {"bfloat16": 8, "float16": 11, "float32": 24, "float64": 53}
"""Bits of the significand, the hidden one included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A part of the tokens, or of the difference, and what it carries.

    Example:
        Share(part="largest 1% of tokens", tokens=0.01, mismatch=0.7)
    """

    part: str
    tokens: float
    """Share of the tokens."""

    mismatch: float
    """Share of the squared log-ratio. Parts overlap, so shares do not add up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeToken:
    """A token with a large log-ratio."""

    row: int
    position: int
    """Number of response tokens before it."""

    token: int
    rollout_logprob: float
    trainer_logprob: float
    flipped_layers: int | None
    """MoE layers with other experts; None without routes of both sides."""


def shares(counted: Counted) -> tuple[Share, ...]:
    """Shares of the squared log(pi_old / mu_old), as far as the columns tell parts apart."""
    squared = np.square(counted.difference)
    total = float(squared.sum())
    if total == 0:
        return ()

    def part(name: str, chosen: ndarray) -> Share:
        return Share(
            part=name,
            tokens=float(chosen.mean()),
            mismatch=float(squared[chosen].sum()) / total,
        )

    found = []
    if counted.flips is not None:
        flipped = np.asarray(counted.flips.any(axis=1))
        found.append(part("tokens with other experts in some layer", flipped))
    lower = np.exp(np.minimum(counted.rollout, counted.trainer))
    first: ndarray = counted.depth < FIRST_TOKENS
    rare: ndarray = lower < RARE
    found += [
        part(f"the first {FIRST_TOKENS} tokens of responses", first),
        part(f"tokens with a probability below {RARE:g} on a side", rare),
        part(f"the largest {TOP:.0%} of tokens", _largest(squared)),
    ]
    rounding = _storage_rounding(counted)
    if rounding / total >= TOP:
        name = f"rounding of the dump to {counted.pairing.storage}"
        found.append(Share(part=name, tokens=1.0, mismatch=min(1.0, rounding / total)))
    return tuple(found)


def _largest(squared: Float[ndarray, " N"]) -> ndarray:
    count = max(1, round(TOP * len(squared)))
    chosen = np.zeros(len(squared), dtype=bool)
    chosen[np.argpartition(squared, -count)[-count:]] = True
    return chosen


def _storage_rounding(counted: Counted) -> float:
    """Expected square of the rounding: a twelfth of the squared distance between numbers."""
    bits = _MANTISSA[counted.pairing.storage]
    found = 0.0
    for values in (counted.rollout, counted.trainer):
        _, exponents = np.frexp(values)
        found += float(np.square(np.ldexp(1.0, exponents - bits)).sum()) / 12
    return found


def largest_tokens(counted: Counted) -> tuple[LargeToken, ...]:
    """The tokens with the largest |log-ratio|, the largest first."""
    order = np.argsort(-np.abs(counted.difference), kind="stable")[:LARGEST]
    return tuple(
        LargeToken(
            row=int(counted.row[at]),
            position=int(counted.depth[at]),
            token=int(counted.token[at]),
            rollout_logprob=float(counted.rollout[at]),
            trainer_logprob=float(counted.trainer[at]),
            flipped_layers=None if counted.flips is None else int(counted.flips[at].sum()),
        )
        for at in order
        if counted.difference[at] != 0
    )
