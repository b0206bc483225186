"""Faults that numbers show by themselves: infinite values, masks, padding, prompts.

None of them needs many tokens, since sound dumps have none of it at all.
"""

from typing import Any

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from steadyrl.analysis.dumps.counted import Counted, is_sampled
from steadyrl.analysis.dumps.finding import DumpCause, Finding
from steadyrl.analysis.dumps.record import DumpRow

MOST_ROWS = 0.9
"""Share of the rows from which on a slip at their edges is one of the program, not of the data."""

SOME_ROWS = 0.1
"""Share of rows with another prompt from which on templates, and not single rows, differ."""

NOT_CERTAIN = -0.05
"""Log-probability below which a token is not certain, whatever the rounding."""


def non_finite(counted: Counted) -> Finding | None:
    """A log-probability of a sampled token is finite: engine and trainer could produce it."""
    bad = int((~counted.finite).sum())
    if not bad:
        return None
    kinds = []
    for side, name in (("engine", "rollout_logprobs"), ("trainer", "trainer_logprobs")):
        values = counted.column(name)
        assert values is not None
        count = int((~is_sampled(values)).sum())
        if count:
            kinds.append(f"{count} of the {side} ({_kinds(values)})")
    return Finding.of(
        DumpCause.NON_FINITE, count=bad, tokens=len(counted.finite), kinds=" and ".join(kinds)
    )


def _kinds(values: ndarray) -> str:
    names = {
        "NaN": np.isnan(values),
        "-inf": np.isneginf(values),
        "+inf": np.isposinf(values),
        f"{np.min(values, initial=0.0):.6g}": np.isfinite(values) & ~is_sampled(values),
    }
    return ", ".join(name for name, found in names.items() if found.any())


def masks(counted: Counted) -> Finding | None:
    """Every counted token was sampled, and every sampled token is counted.

    The engine records exact zeros, or nothing, at tokens that it did not sample.
    """
    rows = [row for row in counted.pairing.rows if row.mask.any()]
    padded = sum(int((row.mask & row.padding).sum()) for row in rows)
    unsampled_first = [_unsampled(row, _first(row)) for row in rows]
    unsampled_last = [_unsampled(row, _last(row)) for row in rows]
    left_before = [_sampled(row, _first(row) - 1) for row in rows]
    left_after = [_sampled(row, _last(row) + 1) for row in rows]
    slipped = (
        ("later", np.array(left_before), np.array(unsampled_last)),
        ("earlier", np.array(left_after), np.array(unsampled_first)),
    )
    for direction, left_out, unsampled in slipped:
        if rows and left_out.mean() >= MOST_ROWS:
            return Finding.of(
                DumpCause.MASK,
                rows=int(left_out.sum()),
                of=len(rows),
                edge="first" if direction == "later" else "last",
                direction=direction,
                counted=int(unsampled.sum()),
            )
    zeros = np.array([_records_zeros(row) for row in rows])
    ends = np.array(unsampled_last) & ~zeros
    tails = rows and ends.mean() >= SOME_ROWS and zeros.mean() < SOME_ROWS
    if padded or (tails and not any(left_before)):
        tokens = padded or sum(_unsampled_tail(row) for row in rows)
        return Finding.of(DumpCause.PADDING, tokens=tokens, rows=int(ends.sum()), of=len(rows))
    return None


def _first(row: DumpRow) -> int:
    return int(np.flatnonzero(row.mask)[0])


def _last(row: DumpRow) -> int:
    return int(np.flatnonzero(row.mask)[-1])


def _unsampled(row: DumpRow, at: int) -> bool:
    """Whether the engine recorded nothing for a token that is not certain."""
    assert row.rollout_logprobs is not None
    assert row.trainer_logprobs is not None
    recorded = row.rollout_logprobs[at]
    return bool(recorded == 0 and row.trainer_logprobs[at] < NOT_CERTAIN)


def _records_zeros(row: DumpRow) -> bool:
    """Whether the engine is certain, before the tail or everywhere, of what the trainer is not.

    Greedy sampling is, and top-p or top-k where one token is left.
    """
    counted = np.flatnonzero(row.mask)
    before = counted[: len(counted) - _unsampled_tail(row)]
    return not len(before) or any(_unsampled(row, int(at)) for at in before)


def _unsampled_tail(row: DumpRow) -> int:
    return next(
        (n for n, at in enumerate(np.flatnonzero(row.mask)[::-1]) if not _unsampled(row, int(at))),
        int(row.mask.sum()),
    )


def _sampled(row: DumpRow, at: int) -> bool:
    """Whether the engine recorded something for a token that is not counted."""
    assert row.rollout_logprobs is not None
    if not 0 <= at < len(row.tokens):
        return False
    return bool(np.isfinite(row.rollout_logprobs[at]) and row.rollout_logprobs[at] != 0)


def prompts(counted: Counted) -> Finding | None:
    """Engine and trainer read the same prompt, which begins with one BOS at most."""
    pairs = [
        (engine, row.prompt)
        for engine, row in zip(counted.pairing.engine_prompts, counted.pairing.rows, strict=True)
        if len(engine) and len(row.prompt)
    ]
    if not pairs:
        return None
    differing = [(one, other) for one, other in pairs if not np.array_equal(one, other)]
    if len(differing) >= SOME_ROWS * len(pairs):
        return _different(differing, len(pairs))
    return _doubled([engine for engine, _ in pairs])


def _different(differing: list[tuple[ndarray, ndarray]], of: int) -> Finding:
    for longer, doubled in (("engine", differing), ("trainer", [(b, a) for a, b in differing])):
        found = [_has_doubled(one, other) for one, other in doubled]
        if np.mean(found) >= MOST_ROWS:
            words: dict[str, Any] = {
                "side": f"The {longer}'s prompts begin",
                "rows": len(found),
                "of": of,
            }
            return Finding.of(DumpCause.BOS, **words, token=int(doubled[0][0][0]))
    engine, trainer = differing[0]
    shorter = min(len(engine), len(trainer))
    same = engine[:shorter] == trainer[:shorter]
    at = shorter if same.all() else int(np.argmin(same))
    return Finding.of(
        DumpCause.TEMPLATE,
        rows=len(differing),
        of=of,
        at=at,
        engine=_excerpt(engine, at),
        trainer=_excerpt(trainer, at),
        lengths=f"{len(engine)} and {len(trainer)} tokens",
    )


def _has_doubled(longer: Int[ndarray, " P"], shorter: Int[ndarray, " Q"]) -> bool:
    """Whether one prompt is the other with its first token twice."""
    same = np.array_equal(longer[1:], shorter)
    return bool(same and len(longer) > 1 and longer[0] == longer[1])


def _doubled(read: list[Int[ndarray, " _P"]]) -> Finding | None:
    different = np.unique([prompt.tobytes() for prompt in read])
    found = [len(prompt) > 1 and prompt[0] == prompt[1] for prompt in read]
    alike = len({int(prompt[0]) for prompt in read}) == 1
    if len(different) < 2 or not alike or not all(found):
        return None
    side = "The prompts of both sides begin"
    token = int(read[0][0])
    return Finding.of(DumpCause.BOS, side=side, rows=len(read), of=len(read), token=token)


def _excerpt(prompt: Int[ndarray, " P"], at: int) -> str:
    tokens = prompt[max(0, at - 2) : at + 4].tolist()
    return " ".join(map(str, tokens)) or "nothing"
