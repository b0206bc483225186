"""Whether recorded routes are those of their tokens."""

from itertools import pairwise

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from steadyrl.analysis.dumps.finding import DumpCause, Finding
from steadyrl.analysis.dumps.record import UNKNOWN, DumpRow, Pairing
from steadyrl.analysis.signals import DOMINANT_SHARE

LAGS = (-2, -1, 1, 2)

CLEAR = 0.2
"""How much larger the agreement at another position must be."""

FEWEST = 32
"""Comparisons that an agreement needs."""

OFFSETS = (-3, -2, -1, 0, 1, 2)
"""Positions around the first token at which two texts differ."""

MOSTLY_EQUAL = 0.7
"""Share of pairs with equal routes: rounding leaves more after equal texts, chance fewer."""

FEWEST_PAIRS = 8


def routes(pairing: Pairing) -> Finding | None:
    """Row `t` of the routes belongs to the pass that was fed token `t`, on both sides."""
    both = [row for row in pairing.rows if row.rollout_experts is not None]
    if not both:
        return None
    if all(row.trainer_experts is not None for row in both):
        return _against_trainer(both)
    return _against_texts(both)


def _against_trainer(rows: list[DumpRow]) -> Finding | None:
    at = {lag: _agreement(rows, lag) for lag in (0, *LAGS)}
    if at[0] is None:
        return None
    lag = max(LAGS, key=lambda lag: at[lag] or 0.0)
    then = at[lag] or 0.0
    if then > at[0] + CLEAR:
        seen = (
            f"The engine's experts are the trainer's at {at[0]:.0%} of the positions, and at "
            f"{then:.0%} if moved by {abs(lag)} token{'s' if abs(lag) > 1 else ''}."
        )
        return Finding.of(DumpCause.ROUTES, seen=seen)
    if 1 - at[0] > DOMINANT_SHARE:
        seen = (
            f"The engine's experts differ from the trainer's at {1 - at[0]:.0%} of the positions."
        )
        return Finding.of(DumpCause.ROUTES, seen=seen)
    return None


def _agreement(rows: list[DumpRow], lag: int) -> float | None:
    """Share of (token, layer) pairs whose sets are equal, with the engine's moved by `lag`."""
    equal, count = 0, 0
    for row in rows:
        assert row.rollout_experts is not None
        assert row.trainer_experts is not None
        engine, trainer = _sets(row.rollout_experts), _sets(row.trainer_experts)
        length = len(engine) - abs(lag)
        if length <= 0:
            continue
        one = engine[max(0, lag) : max(0, lag) + length]
        other = trainer[max(0, -lag) : max(0, -lag) + length]
        known = (one != UNKNOWN).all(axis=(1, 2)) & (other != UNKNOWN).all(axis=(1, 2))
        equal += int((one[known] == other[known]).all(axis=2).sum())
        count += int(known.sum()) * engine.shape[1]
    return equal / count if count >= FEWEST else None


def _against_texts(rows: list[DumpRow]) -> Finding | None:
    """Routes of equal texts are equal, and differ from the first token on that differs.

    Rows in the order of their tokens share long beginnings with their neighbors, above all in
    groups of answers to one prompt.
    """
    ordered = sorted(rows, key=lambda row: row.tokens.tolist())
    equal: dict[int, list[bool]] = {offset: [] for offset in OFFSETS}
    for one, other in pairwise(ordered):
        length = min(len(one.tokens), len(other.tokens))
        differ = np.flatnonzero(one.tokens[:length] != other.tokens[:length])
        if not len(differ):
            continue
        assert one.rollout_experts is not None
        assert other.rollout_experts is not None
        for offset in OFFSETS:
            at = int(differ[0]) + offset
            if 0 <= at < length:
                pair = np.stack([one.rollout_experts[at], other.rollout_experts[at]])
                if (pair != UNKNOWN).all():
                    sets = _sets(pair)
                    equal[offset].append(bool((sets[0] == sets[1]).all()))
    if min(map(len, equal.values())) < FEWEST_PAIRS:
        return None
    shares = {offset: float(np.mean(found)) for offset, found in equal.items()}
    first = next((offset for offset in OFFSETS if shares[offset] < MOSTLY_EQUAL), None)
    if first is None or first in (0, OFFSETS[0]):
        return None
    seen = (
        "The engine's routes after equal texts are equal, and should differ from the first token "
        f"on that differs. They differ from {abs(first)} token{'s' if abs(first) > 1 else ''} "
        f"{'later' if first > 0 else 'earlier'} on."
    )
    return Finding.of(DumpCause.ROUTES, seen=seen)


def _sets(experts: Int[ndarray, "T L K"]) -> Int[ndarray, "T L K"]:
    return np.sort(experts, axis=2)
