"""Comparison of engine and trainer by their dumps: the cause, its share, and the tokens.

read_content -> read_dump -> pair -> compare
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from steadyrl.analysis.dumps.counted import Counted
from steadyrl.analysis.dumps.distance import arithmetic, notable_shift, other_weights
from steadyrl.analysis.dumps.finding import Finding
from steadyrl.analysis.dumps.policies import (
    FEWEST_TOKENS,
    engine_filter,
    measure,
    sampling,
    temperature,
)
from steadyrl.analysis.dumps.record import Pairing
from steadyrl.analysis.dumps.routes import routes
from steadyrl.analysis.dumps.shares import LargeToken, Share, largest_tokens, shares
from steadyrl.analysis.dumps.structure import masks, non_finite, prompts
from steadyrl.analysis.dumps.values import (
    divided,
    permuted,
    positive,
    saturated,
    sequence_values,
    shifted,
    units,
    unrecorded,
)
from steadyrl.base.errors import UserError
from steadyrl.base.wording import short_number

Check = Callable[[Counted], Finding | None]

FEWEST_FOR_VALUES = 32
"""Tokens below which a slip may fit by chance."""

CHECKS: tuple[tuple[Check, int], ...] = (
    (non_finite, 1),
    (prompts, 1),
    (positive, FEWEST_FOR_VALUES),
    (unrecorded, FEWEST_FOR_VALUES),
    (shifted, FEWEST_FOR_VALUES),
    (permuted, FEWEST_FOR_VALUES),
    (masks, 1),
    (sequence_values, FEWEST_FOR_VALUES),
    (divided, FEWEST_FOR_VALUES),
    (units, FEWEST_FOR_VALUES),
    (saturated, FEWEST_FOR_VALUES),
    (lambda counted: routes(counted.pairing), FEWEST_FOR_VALUES),
    (temperature, FEWEST_TOKENS),
    (engine_filter, FEWEST_TOKENS),
    (other_weights, FEWEST_TOKENS),
    (sampling, FEWEST_TOKENS),
)
"""Faults in the order in which one would hide the next, and the tokens that each needs."""


class Verdict(StrEnum):
    """State of a pair of dumps."""

    SOUND = "sound"
    TOO_FEW = "too few tokens to tell"
    FAULT = "fault"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What the dumps of one rollout say of engine and trainer."""

    verdict: Verdict
    rows: int
    tokens: int
    """Counted tokens with log-probabilities of both."""

    finding: Finding | None
    """The cause; None if engine and trainer are equal, or there are too few tokens."""

    metrics: dict[str, float]
    """As in docs/metrics.md."""

    shares: tuple[Share, ...]
    largest: tuple[LargeToken, ...]
    notes: tuple[str, ...]

    def to_values(self) -> dict[str, Any]:
        """The same as names and values, for JSON."""
        return asdict(self)


def compare(pairing: Pairing, *, quantized_engine: bool = False) -> Comparison:
    """The comparison of paired rows.

    Args:
        quantized_engine: Whether the engine rounds its weights to 8 bits or fewer. What that does
            to the logits of a token after all texts is then not taken for stale weights.

    Raises:
        UserError: no token is counted.
    """
    counted = Counted(pairing, quantized_engine)
    if not len(counted.places):
        raise UserError(
            "The mask of the dump counts no token. Give a dump whose mask is 1 at the tokens that "
            "the policy sampled."
        )
    finding, verdict = _judged(counted)
    enough = len(counted.rollout) > 0
    return Comparison(
        verdict=verdict,
        rows=len(pairing.rows),
        tokens=len(counted.rollout),
        finding=finding,
        metrics=measure(counted) if enough else {},
        shares=shares(counted) if enough else (),
        largest=largest_tokens(counted) if enough else (),
        notes=_notes(counted),
    )


def _judged(counted: Counted) -> tuple[Finding | None, Verdict]:
    tokens = len(counted.rollout)
    for check, fewest in CHECKS:
        found = check(counted) if tokens >= fewest or check is non_finite else None
        if found is not None:
            return found, Verdict.FAULT
    if tokens < FEWEST_TOKENS:
        return None, Verdict.TOO_FEW
    return arithmetic(counted), Verdict.SOUND


def _notes(counted: Counted) -> tuple[str, ...]:
    notes = list(counted.pairing.notes)
    if not counted.pairing.has_mask:
        notes.append("The dump has no mask: every token of a response is counted.")
    if counted.pairing.storage in ("float16", "bfloat16"):
        notes.append(
            f"Log-probabilities are stored in {counted.pairing.storage}, whose rounding is part of "
            "the mismatch."
        )
    if len(counted.rollout) and not counted.difference.any():
        notes.append(
            "Both columns are equal to the bit. That is what one program gives for one column "
            "that was stored twice, as where a framework takes the engine's log-probabilities for "
            "the trainer's; two engines seldom do."
        )
    shift = notable_shift(counted) if counted.quantized_engine else None
    if shift is not None:
        notes.append(
            f"The logit of a token moves by {short_number(shift.nats)} nats on average, whatever "
            "the text before it. The rounding of a quantized engine's weights does that, and so do "
            "stale weights: compare the weight versions that both sides log."
        )
    if len(counted.rollout) and np.exp(counted.rollout).mean() > 0.999:
        notes.append(
            "Nearly every token has a probability of 1, as under greedy sampling or a policy that "
            "is sure: such tokens show little of the mismatch."
        )
    return tuple(notes)


def to_text(comparison: Comparison, name: str) -> str:
    """The verdict in sentences."""
    lines = [f"{name}: {comparison.verdict}"]
    lines[0] += f", {comparison.rows} rows, {comparison.tokens} tokens"
    finding = comparison.finding
    if finding is not None:
        lines += [
            f"cause: {finding.cause}",
            f"  why: {finding.reason}",
            f"  change: {finding.change}",
        ]
    if comparison.verdict == Verdict.TOO_FEW:
        lines.append(
            f"  Distributions are compared from {FEWEST_TOKENS} tokens on. Give a dump of a whole "
            "step."
        )
    lines += [f"note: {note}" for note in comparison.notes]
    values = [f"{key} {short_number(value)}" for key, value in comparison.metrics.items()]
    if values:
        lines.append("; ".join(values))
    return "\n".join(lines)
