"""Whether tokens were drawn from the probabilities that the engine reports, without its logits.

The entropy of each distribution would decide (`objectives.sampling_diagnostics`), but few dumps
have it. Two properties of draws need only the probabilities of the sampled tokens.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from steadyrl.analysis.dumps.counted import Counted

DOMINANT = (0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
"""Probabilities from which on a token is taken for the first choice of its distribution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawTest:
    """Events that the reported probabilities predict, and those that were seen."""

    expected: float
    seen: float

    deviation: float
    """Difference in standard errors; negative if fewer were seen."""


def second_choices(probabilities: Float[ndarray, " N"]) -> DrawTest:
    """Tokens other than the first choice, where the first choice is likely.

    Where the likeliest token has probability r >= s > 1/2, another one is drawn with probability
    1 - r, and has probability 1 - s at most. For draws of the likeliest token, (1 - r) / r sums up
    to the expected number of such tokens. There may be more of them, from flatter distributions,
    but not fewer. The variance of one draw is (1 - r) / r.

    Returns the test of the `DOMINANT` s that deviates the most.
    """
    tests = []
    for least in DOMINANT:
        first = probabilities[probabilities >= least]
        expected = float(((1 - first) / first).sum())
        seen = float((probabilities <= 1 - least).sum())
        deviation = (seen - expected) / np.sqrt(expected + 1)
        tests.append(DrawTest(expected=expected, seen=seen, deviation=float(deviation)))
    return min(tests, key=lambda test: test.deviation)


def novelties(counted: Counted, probabilities: Float[ndarray, " N"]) -> DrawTest:
    """Tokens that no other draw after the same text has chosen.

    A draw is new with the probability that the tokens of the other draws leave over. So the sum of
    1[new] - (1 - sum of the others' probabilities) over all draws is 0 in expectation, whatever the
    distributions. Its variance is taken as the expected number of new tokens, as of independent
    rare events.
    """
    expected = seen = 0.0
    order = np.argsort(counted.contexts, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(counted.contexts[order])) + 1)
    for group in groups:
        if len(group) < 2:
            continue
        _, first, inverse, counts = np.unique(
            counted.token[group], return_index=True, return_inverse=True, return_counts=True
        )
        known = probabilities[group][first]
        single = counts[inverse] == 1
        left = 1 - known.sum() + np.where(single, known[inverse], 0.0)
        expected += float(np.clip(left, 0, 1).sum())
        seen += float(single.sum())
    deviation = (seen - expected) / np.sqrt(expected + 1)
    return DrawTest(expected=expected, seen=seen, deviation=float(deviation))


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """Fit of log pi_old = ratio * log mu_old + constant, with a constant for each text before."""

    ratio: float
    share: float
    """Share of the squared difference between tokens after the same text that the ratio explains.
    """

    tokens: int
    """Different tokens beyond the first after each text."""


def slope_within_contexts(counted: Counted) -> Slope | None:
    """The temperature ratio between engine and trainer, exactly, from texts that go on differently.

    Policies at two temperatures have log pi = q log mu - log Z with one Z for each text before the
    token, so differences between tokens after the same text are proportional. None without any.
    """
    order = np.lexsort((counted.token, counted.contexts))
    pairs = np.stack([counted.contexts[order], counted.token[order]], axis=1)
    kept = np.append(True, (np.diff(pairs, axis=0) != 0).any(axis=1))
    chosen, contexts = order[kept], pairs[kept, 0]
    ours, theirs = counted.rollout[chosen], counted.trainer[chosen]
    _, group, sizes = np.unique(contexts, return_inverse=True, return_counts=True)

    def centered(values: ndarray) -> ndarray:
        return values - (np.bincount(group, weights=values) / sizes)[group]

    x, y = centered(ours), centered(theirs)
    power, gap = float(np.square(x).sum()), float(np.square(y - x).sum())
    tokens = len(chosen) - len(sizes)
    if not tokens or power == 0 or gap == 0:
        return None
    ratio = float((x * y).sum()) / power
    share = 1 - float(np.square(y - ratio * x).sum()) / gap
    return Slope(ratio=ratio, share=share, tokens=tokens)
