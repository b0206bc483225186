"""Log-probabilities that are not those of these tokens: other units, other tokens, other rows.

Each test compares how well the engine's values are explained by the trainer's under one slip with
how well they are explained without.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from steadyrl.analysis.dumps.counted import Counted
from steadyrl.analysis.dumps.finding import DumpCause, Finding
from steadyrl.analysis.dumps.structure import MOST_ROWS

UNITS = {
    "base 2": 1 / math.log(2),
    "base 10": 1 / math.log(10),
    "the opposite sign": -1.0,
}
"""Factors by which a log-probability in another unit differs from one in nats."""

UNIT_TOLERANCE = 0.01
"""Relative distance of a fitted factor from a unit's."""

MAX_RESIDUAL = 0.1
"""Share of the squared values that a slip may leave unexplained; rounding leaves less."""

MUCH_BETTER = 0.5
"""A slip must leave less than this share of the distance without it."""

LARGEST = 3.0
"""Nats at which a distance is cut, so that single tokens do not decide."""

LAGS = (-2, -1, 1, 2)

FEWEST_IN_ROW = 4
"""Tokens of a row whose values can be compared with each other."""

MAX_ROWS = 96
"""Rows whose every pair is compared."""

MOST_FIT = 0.5
"""Share of the rows that must fit another one better, and share of different ones among these."""

SAME_ROW = 0.25
"""A row's own values are closer than this share of the distance to another row's: chance makes the
closest of many short rows half as far as any."""

SPREAD = 0.05
"""Nats within which log-probabilities of a row may be equal by chance."""

ROUNDING = 1e-3
"""Nats by which a log-probability may be above 0."""

FLOOR = -1.0
"""Highest log-probability that is taken for the floor of a number type or a clamp."""

FEWEST_AT_FLOOR = 5


def sequence_values(counted: Counted) -> Finding | None:
    """The tokens of a response have log-probabilities of their own."""
    for side, ours, theirs in _sides(counted):
        constant, varied, total = 0, 0, 0.0
        for one, other in _rows(counted, ours, theirs):
            if np.ptp(other) > SPREAD:
                varied += 1
                if abs(one[0]) > 0 and np.ptp(one) <= 1e-4 * abs(one[0]):
                    constant += 1
                    total += abs(one[0] - other.sum()) < abs(one[0] - other.mean())
        if varied and constant >= MOST_ROWS * varied:
            kind = "sum" if total > constant / 2 else "mean"
            words: dict[str, Any] = {"side": side, "rows": constant, "of": varied, "kind": kind}
            return Finding.of(DumpCause.SEQUENCE_VALUES, **words)
    return None


def divided(counted: Counted) -> Finding | None:
    """A log-probability does not depend on how many tokens its response has."""
    for side, ours, theirs in _sides(counted):
        slopes = []
        for one, other in _rows(counted, ours, theirs):
            if np.square(other).sum() > SPREAD:
                slope = float((one * other).sum() / np.square(other).sum())
                left = np.square(one - slope * other).sum() / max(np.square(one).sum(), 1e-12)
                slopes.append(slope * len(one) if left < MAX_RESIDUAL else np.inf)
        fits = np.abs(np.array(slopes) - 1) < MAX_RESIDUAL
        if slopes and fits.mean() >= MOST_ROWS:
            return Finding.of(DumpCause.DIVIDED, side=side, rows=int(fits.sum()), of=len(slopes))
    return None


def positive(counted: Counted) -> Finding | None:
    """No log-probability is above 0: otherwise it has another sign, or no logarithm was taken."""
    above = {side: float(np.mean(ours > ROUNDING)) for side, ours, _ in _sides(counted)}
    wrong = {side: ours for side, ours, _ in _sides(counted) if above[side] > MOST_FIT}
    if not wrong:
        return None
    found = f"above 0 at {max(above.values()):.0%} of the tokens: "
    if max(values.max() for values in wrong.values()) > 1 + ROUNDING:
        found += "they have the opposite sign"
    else:
        found += "probabilities between 0 and 1, or of the opposite sign"
    return Finding.of(DumpCause.UNIT, side=" and the ".join(wrong), unit=found)


def unrecorded(counted: Counted) -> Finding | None:
    """A side that is certain of every token is one that recorded nothing, or sampled greedily."""
    for side, ours, theirs in _sides(counted):
        share = float(np.mean(ours == 0))
        if share >= MOST_ROWS and np.mean(theirs < -SPREAD) > 1 - MOST_ROWS:
            return Finding.of(DumpCause.UNRECORDED, side=side, share=share)
    return None


def units(counted: Counted) -> Finding | None:
    """Log-probabilities are in nats, and at most 0."""
    for side, ours, theirs in _sides(counted):
        power = float(np.square(theirs).sum())
        if power == 0:
            continue
        factor = float((ours * theirs).sum()) / power
        left = float(np.square(ours - factor * theirs).sum())
        without = float(np.square(ours - theirs).sum())
        for name, expected in UNITS.items():
            near = abs(factor / expected - 1) < UNIT_TOLERANCE
            if near and left < MAX_RESIDUAL * without:
                found = f"{factor:.3g} times the other side's, as in {name}"
                return Finding.of(DumpCause.UNIT, side=side, unit=found)
    return None


def shifted(counted: Counted) -> Finding | None:
    """Entry `t` of both columns speaks of token `t`."""
    at = {lag: _distance_at(counted, lag) for lag in (0, *LAGS)}
    lag = min(LAGS, key=lambda lag: at[lag])
    if not at[0] > 0 or at[lag] >= MUCH_BETTER * at[0]:
        return None
    direction = "later" if lag > 0 else "earlier"
    return Finding.of(
        DumpCause.SHIFTED,
        lag=abs(lag),
        direction=direction,
        now=f"{at[0]:.2g}",
        then=f"{at[lag]:.2g}",
    )


def _distance_at(counted: Counted, lag: int) -> float:
    """Mean distance of the engine's value at `t` and the trainer's at `t + lag`."""
    distances = []
    for one, other in _rows(counted, counted.rollout, counted.trainer):
        length = len(one) - abs(lag)
        here, there = max(0, -lag), max(0, lag)
        distances.append(_distances(one[here : here + length], other[there : there + length]))
    return float(np.concatenate(distances).mean()) if distances else 0.0


def permuted(counted: Counted) -> Finding | None:
    """Both columns of a row speak of one response."""
    both = _rows(counted, counted.rollout, counted.trainer)
    rows = [(one, other) for one, other in both if np.ptp(one) > SPREAD][:MAX_ROWS]
    if len(rows) < FEWEST_IN_ROW:
        return None
    own = np.array([_distances(one, other).mean() for one, other in rows])
    if own.mean() < SPREAD:
        return None
    nearest = [_nearest(one, rows) for one, _ in rows]
    best = np.array([distance for distance, _ in nearest])
    elsewhere = best < SAME_ROW * own
    different = {row for (_, row), found in zip(nearest, elsewhere, strict=True) if found}
    if elsewhere.mean() < MOST_FIT or len(different) < MOST_FIT * elsewhere.sum():
        return None
    return Finding.of(
        DumpCause.PERMUTED,
        rows=int(elsewhere.sum()),
        of=len(rows),
        now=f"{own.mean():.2g}",
        then=f"{best.mean():.2g}",
    )


def _nearest(
    values: Float[ndarray, " n"], rows: list[tuple[ndarray, ndarray]]
) -> tuple[float, int]:
    """Distance of the engine's values to the closest row of the trainer's, and its number.

    Rows have similar lengths: values were cut or filled to fit.
    """
    found, row = np.inf, -1
    for number, (_, other) in enumerate(rows):
        length = min(len(values), len(other))
        if length >= FEWEST_IN_ROW and 2 * length > max(len(values), len(other)):
            distance = float(_distances(values[:length], other[:length]).mean())
            if distance < found:
                found, row = distance, number
    return found, row


def saturated(counted: Counted) -> Finding | None:
    """No log-probability is the lowest one again and again: that is a floor."""
    for side, ours, theirs in _sides(counted):
        floor = float(ours.min())
        at = ours <= floor + 1e-6 * abs(floor)
        below = theirs[at]
        if (
            floor <= FLOOR
            and at.sum() >= FEWEST_AT_FLOOR
            and np.median(below) < floor - SPREAD
            and np.ptp(below) > SPREAD
        ):
            words: dict[str, Any] = {"side": side, "floor": f"{floor:.4g}", "count": int(at.sum())}
            return Finding.of(DumpCause.SATURATION, **words, lowest=f"{below.min():.4g}")
    return None


def _sides(counted: Counted) -> tuple[tuple[str, ndarray, ndarray], ...]:
    return (
        ("engine", counted.rollout, counted.trainer),
        ("trainer", counted.trainer, counted.rollout),
    )


def _rows(counted: Counted, ours: ndarray, theirs: ndarray) -> Iterator[tuple[ndarray, ndarray]]:
    """Two columns by row, of rows that are long enough."""
    for place in np.split(np.arange(len(ours)), np.flatnonzero(np.diff(counted.row)) + 1):
        if len(place) >= FEWEST_IN_ROW:
            yield ours[place], theirs[place]


def _distances(one: ndarray, other: ndarray) -> ndarray:
    return np.minimum(np.abs(one - other), LARGEST)
