"""Old weights, other weights, or arithmetic: what is left when no slip explains the mismatch."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from steadyrl.analysis.dumps.counted import Counted
from steadyrl.analysis.dumps.finding import DumpCause, Finding
from steadyrl.analysis.dumps.log_odds import log_odds
from steadyrl.analysis.dumps.policies import NEGLIGIBLE, mismatch
from steadyrl.analysis.signals import DOMINANT_SHARE, MAX_EXTREME_TOKENS
from steadyrl.base.wording import short_number

MIN_SHIFT = 0.09
"""Nats by which the logits of tokens move, whatever the text before them, from which on weights
differ. In five worlds of benchmarks/dump_world.py (seeds 0, 300, 1000, 2000 and 3000), engines of
16 to 4 bits stay below 0.052, and weights of six updates earlier are above 0.147."""

MIN_SHIFT_Z = 6.0
"""Standard errors of the shift."""

MAX_STALE_EXTREME = 0.15
"""Share of tokens that differ by more than a factor of 2, from which on policies are too far apart
for a few updates: in these worlds updates reach 0.101, and other prompts are above 0.22."""

CERTAIN = 0.98
"""Probability from which on a token has no room to move."""

LARGEST_MOVE = 4.0
"""Multiple of the median at which a move is cut, so that flipped experts do not decide."""

FIRST_TOKENS = 2
"""Tokens of a response that depend on its prompt the most."""

FADING = 3.0
"""How much more the log-odds of the first tokens must move, in the median, for it not to be
rounding. Engines of 16 to 4 bits reach 2.1 (seeds 700 and 800 of benchmarks/dump_world.py)."""

LEAST_START = 0.3
"""Nats by which the first tokens must move at least, in the median. These engines reach 0.09."""

FEWEST_EARLY = 8
"""Different first tokens that this needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonShift:
    """What the logit of a token moves by after all texts, beside what depends on the text."""

    nats: float
    """Standard deviation over tokens; 0 if equal tokens move in no common direction."""

    correlation: float
    """Of the moves of equal tokens."""

    deviation: float
    """The correlation in standard errors."""


NO_SHIFT = CommonShift(nats=0.0, correlation=0.0, deviation=0.0)


def common_shift(counted: Counted) -> CommonShift:
    """The part of the moves of equal tokens that is the same after different texts.

    The move of a token is log(pi_old / mu_old) / (1 - p), p its probability: a change of its logit
    moves the log-probability by 1 - p of it. Rounding has other signs after other texts, so the
    products of the moves of equal tokens vanish; what was learned of a token has one. The mean is
    left out, since sampled tokens are less likely under any other policy. Each text counts once.
    """
    pairs = np.stack([counted.contexts, counted.token], axis=1)
    _, first = np.unique(pairs, axis=0, return_index=True)
    probability = np.exp((counted.rollout[first] + counted.trainer[first]) / 2)
    free = probability < CERTAIN
    chosen = first[free]
    moves = counted.difference[chosen] / (1 - probability[free])
    typical = np.median(np.abs(moves)) if len(moves) else 0.0
    if typical == 0:
        return NO_SHIFT
    limit = LARGEST_MOVE * typical
    moves = np.clip(moves, -limit, limit)
    return _common_shift(moves - moves.mean(), counted.token[chosen])


def _common_shift(moves: Float[ndarray, " n"], tokens: Int[ndarray, " n"]) -> CommonShift:
    _, group, sizes = np.unique(tokens, return_inverse=True, return_counts=True)
    sums, squares, fourths = (
        np.bincount(group, weights=values) for values in (moves, moves**2, moves**4)
    )
    products = float((sums**2 - squares).sum())
    pairs = float((squares * (sizes - 1)).sum())
    variance = 2 * float((squares**2 - fourths).sum())
    if pairs == 0 or variance <= 0:
        return NO_SHIFT
    correlation = products / pairs
    nats = float(np.sqrt(max(0.0, correlation) * np.square(moves).mean()))
    return CommonShift(nats=nats, correlation=correlation, deviation=products / variance**0.5)


def early_moves(counted: Counted) -> tuple[float, float] | None:
    """Median moves of the log-odds of the first tokens of responses, and of the others.

    None unless the first ones move by so much more that it is not rounding, which does not know
    where a response begins. Other prompts do this, and other weights may: an answer is decided in
    its first tokens.
    """
    found = log_odds(counted)
    early = found.depth < FIRST_TOKENS
    if early.sum() < FEWEST_EARLY or early.all():
        return None
    moves = np.abs(found.moves)
    start, rest = float(np.median(moves[early])), float(np.median(moves[~early]))
    return (start, rest) if start > max(LEAST_START, FADING * rest) else None


def notable_shift(counted: Counted) -> CommonShift | None:
    """The common shift, if it is one of weights and not of rounding that has no direction."""
    shift = common_shift(counted)
    return shift if shift.nats > MIN_SHIFT and shift.deviation > MIN_SHIFT_Z else None


def other_weights(counted: Counted) -> Finding | None:
    """Engine and trainer are one policy up to rounding, which has no direction and no place."""
    extreme = mismatch(counted)["extreme_token_fraction"]
    shift = notable_shift(counted)
    if shift is not None and extreme <= MAX_STALE_EXTREME and not counted.quantized_engine:
        return Finding.of(DumpCause.STALE, nats=short_number(shift.nats))
    far = f"{extreme:.0%} of the tokens differ by more than a factor of 2"
    early = early_moves(counted)
    if extreme <= MAX_EXTREME_TOKENS:
        if early is None:
            return None
        start, rest = map(short_number, early)
        far = (
            f"The log-odds of the first {FIRST_TOKENS} tokens of responses differ by {start} nats "
            f"in the median and those of the others by {rest}, where rounding knows no places"
        )
    entry = "other_policy" if counted.pairing.has_both_prompts else "other_policy_or_prompts"
    return Finding.of(DumpCause.OTHER_POLICY, entry, far=far)


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
