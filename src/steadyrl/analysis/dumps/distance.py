"""Old weights, other weights, or arithmetic: what is left when no slip explains the mismatch."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from steadyrl.analysis.dumps.counted import Counted
from steadyrl.analysis.dumps.finding import DumpCause, Finding
from steadyrl.analysis.dumps.policies import NEGLIGIBLE, mismatch
from steadyrl.analysis.signals import DOMINANT_SHARE, MAX_EXTREME_TOKENS
from steadyrl.base.wording import short_number

MIN_CONSISTENCY = 0.18
"""Correlation from which on a token moves in one direction. Engines of every precision stay below
0.11 in the world of seed 0 of benchmarks/foreign_dumps.py, and earlier weights are above 0.26."""

MIN_CONSISTENCY_Z = 6.0
"""Standard errors of the correlation."""

MIN_STALE = 1e-3
"""k3 below which arithmetic alone may move a token in one direction: a rounded output head does."""

CERTAIN = 0.98
"""Probability from which on a token has no room to move."""

LARGEST_MOVE = 4.0
"""Multiple of the median at which a move is cut, so that flipped experts do not decide."""

FIRST_TOKENS = 2
"""Tokens of a response that depend on its prompt the most."""

FADING = 4.0
"""How much farther apart the first tokens must be. Other weights reach 2."""

LEAST_START = 0.3
"""Nats by which the first tokens must differ on average: a third of them by a factor of 2."""

LARGEST_DISTANCE = 3.0
"""Nats at which a distance is cut, so that single tokens do not decide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consistency:
    """Whether a token moves in one direction after all texts."""

    correlation: float
    """Mean product of the moves of one token after two texts, by their mean square."""

    deviation: float
    """The same in standard errors."""


def consistency(counted: Counted) -> Consistency:
    """Correlation of the moves of equal tokens after different texts.

    The move of a token is log(pi_old / mu_old) / (1 - p), p its probability: a change of its logit
    moves the log-probability by 1 - p of it. Rounding has other signs after other texts, so its
    products vanish; what was learned of a token has one. The mean is left out, since sampled tokens
    are less likely under any other policy. Each text counts once.
    """
    pairs = np.stack([counted.contexts, counted.token], axis=1)
    _, first = np.unique(pairs, axis=0, return_index=True)
    probability = np.exp((counted.rollout[first] + counted.trainer[first]) / 2)
    free = probability < CERTAIN
    chosen = first[free]
    moves = counted.difference[chosen] / (1 - probability[free])
    typical = np.median(np.abs(moves)) if len(moves) else 0.0
    if typical == 0:
        return Consistency(correlation=0.0, deviation=0.0)
    limit = LARGEST_MOVE * typical
    moves = np.clip(moves, -limit, limit)
    return _consistency(moves - moves.mean(), counted.token[chosen])


def _consistency(moves: Float[ndarray, " n"], tokens: Int[ndarray, " n"]) -> Consistency:
    _, group, sizes = np.unique(tokens, return_inverse=True, return_counts=True)
    sums, squares, fourths = (
        np.bincount(group, weights=values) for values in (moves, moves**2, moves**4)
    )
    products = float((sums**2 - squares).sum())
    pairs = float((squares * (sizes - 1)).sum())
    variance = 2 * float((squares**2 - fourths).sum())
    if pairs == 0 or variance <= 0:
        return Consistency(correlation=0.0, deviation=0.0)
    return Consistency(correlation=products / pairs, deviation=products / variance**0.5)


def unrecorded_prompts(counted: Counted) -> Finding | None:
    """Policies with other weights differ all along a response, with other prompts at its start."""
    extreme = mismatch(counted)["extreme_token_fraction"]
    distances = np.minimum(np.abs(counted.difference), LARGEST_DISTANCE)
    early = counted.depth < FIRST_TOKENS
    if extreme < MAX_EXTREME_TOKENS / 2 or not early.any() or early.all():
        return None
    start, rest = float(distances[early].mean()), float(distances[~early].mean())
    if start < FADING * rest or start < LEAST_START:
        return None
    words = {"first": FIRST_TOKENS, "start": f"{start:.2g}", "rest": f"{rest:.2g}"}
    return Finding.of(DumpCause.TEMPLATE, "unrecorded_prompts", **words)


def other_weights(counted: Counted) -> Finding | None:
    """Engine and trainer are one policy up to rounding, which has no direction."""
    measured = mismatch(counted)
    extreme = measured["extreme_token_fraction"]
    found = consistency(counted)
    learned = found.correlation > MIN_CONSISTENCY and found.deviation > MIN_CONSISTENCY_Z
    if learned and measured["mismatch_kl_k3"] > MIN_STALE:
        seen = (
            "Here a token moves in one direction whatever the text before it: the moves of equal "
            f"tokens have a correlation of {short_number(found.correlation)}."
        )
        return Finding.of(DumpCause.STALE, seen=seen)
    if extreme > MAX_EXTREME_TOKENS:
        return Finding.of(DumpCause.OTHER_POLICY, share=extreme)
    return None


def arithmetic(counted: Counted) -> Finding | None:
    """The source of a sound mismatch: routing or numerics. None if nothing is left to explain."""
    k3 = mismatch(counted)["mismatch_kl_k3"]
    if k3 < NEGLIGIBLE:
        return None
    if counted.flips is not None and counted.flips.any():
        flipped = counted.flips.any(axis=1)
        squared = np.square(counted.difference)
        share = float(squared[flipped].sum() / squared.sum())
        if share > DOMINANT_SHARE and share > 2 * flipped.mean():
            return Finding.of(DumpCause.ROUTING, share=share, tokens=float(flipped.mean()))
    return Finding.of(DumpCause.NUMERICS, k3=short_number(k3))
