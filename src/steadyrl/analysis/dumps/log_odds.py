"""Log-odds of the sampled tokens: what moves them, and by how much.

Let mu be the engine's probability of a token, and r those of the other tokens among themselves.
Where the engine's temperature is q times the trainer's, pi is proportional to mu^q, and

    log-odds of pi = q log-odds of mu - (1 - q) H_q(r),    log-odds of p = log p - log(1 - p),

H_q being the Renyi entropy, which lies between 0 and the logarithm of the vocabulary's size. So the
log-odds of all tokens lie near one line, whatever their entropies: those of a nearly certain token
move the most, and all such tokens move one way. Rounding and learning move the log-odds of a token
by as much where it is nearly certain, and either way.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from steadyrl.analysis.dumps.counted import Counted

NEARLY_CERTAIN = 1e-4
"""Probability of all other tokens below which float32 holds too few digits of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOdds:
    """`n` different tokens after different texts: each is there once."""

    moves: Float[ndarray, " n"]
    """Of the trainer less those of the engine."""

    means: Float[ndarray, " n"]
    """Of both sides. Both enter alike, so that rounding of either has no slope."""

    depth: Int[ndarray, " n"]
    """Response tokens before each."""


def log_odds(counted: Counted) -> LogOdds:
    """The log-odds of the counted tokens that are not nearly certain."""
    pairs = np.stack([counted.contexts, counted.token], axis=1)
    _, first = np.unique(pairs, axis=0, return_index=True)
    lowest = -NEARLY_CERTAIN
    chosen = first[(counted.rollout[first] < lowest) & (counted.trainer[first] < lowest)]
    engine, trainer = _log_odds(counted.rollout[chosen]), _log_odds(counted.trainer[chosen])
    return LogOdds(
        moves=trainer - engine, means=(trainer + engine) / 2, depth=counted.depth[chosen]
    )


def _log_odds(logprobs: Float[ndarray, " n"]) -> Float[ndarray, " n"]:
    return logprobs - np.log(-np.expm1(logprobs))


LIKELY = 1.0
"""Log-odds from which on a token is likelier than all others together, whatever rounding does."""

MOST_ENTROPY = 13.0
"""Logarithm of the size of the largest vocabularies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Fit of the moves of log-odds by a line over their means."""

    ratio: float
    """Temperature of the engine over that of the trainer."""

    share: float
    """Share of the variance of the moves that the line explains; 0 for a line of no temperature."""

    one_way: float
    """Net move of the likely tokens, as a share of all their moves: 1 if all move one way."""


NO_LINE = Line(ratio=1.0, share=0.0, one_way=0.0)


def line_of_log_odds(found: LogOdds) -> Line:
    """The line on which log-odds move under a temperature.

    With the mean L of both sides' log-odds, the move is 2 (q - 1) / (q + 1) (L + H_q(r)): the slope
    has the ratio q, and where the line is 0 stands the typical entropy of the other tokens, which
    is neither negative nor above that of a vocabulary.
    """
    moves, means = found.moves, found.means
    if len(moves) < 2 or not np.ptp(moves) or not np.ptp(means):
        return NO_LINE
    slope, at_zero = np.polyfit(means, moves, 1)
    if slope in (0, 2) or not 0 <= at_zero / slope <= MOST_ENTROPY:
        return NO_LINE
    left = moves - slope * means - at_zero
    likely = moves[means > LIKELY]
    total = float(np.abs(likely).sum())
    return Line(
        ratio=float((2 + slope) / (2 - slope)),
        share=1 - float(left.var() / moves.var()),
        one_way=abs(float(likely.sum())) / total if total else 0.0,
    )
