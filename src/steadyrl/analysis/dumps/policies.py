"""Which of two policies differs how: temperature, filters, sampling, weights, numerics.

These are statements about distributions, and need some number of tokens. The order is that in
which one would hide the next.
"""

import numpy as np
import torch
from numpy import ndarray

from steadyrl.analysis.dumps.counted import Counted
from steadyrl.analysis.dumps.finding import DumpCause, Finding
from steadyrl.analysis.dumps.log_odds import line_of_log_odds, log_odds
from steadyrl.analysis.dumps.sampling_tests import (
    novelties,
    second_choices,
    slope_within_contexts,
)
from steadyrl.analysis.signals import (
    DOMINANT_SHARE,
    MAX_SURPRISAL_Z,
    MIN_SURPRISAL_SHARE,
    MIN_TEMPERATURE_DIFFERENCE,
    RAREST_SURPRISAL,
)
from steadyrl.base.wording import short_number
from steadyrl.objectives import (
    mismatch_diagnostics,
    sampling_diagnostics,
    temperature_diagnostics,
    weight_diagnostics,
)

FEWEST_TOKENS = 128
"""Tokens below which distributions cannot be compared."""

FEWEST_BRANCHES = 24
"""Different tokens after equal texts that a slope within texts needs."""

MAX_DRAW_DEVIATION = 5.0
"""Standard errors by which draws may deviate from their probabilities."""

MIN_CORRELATION = 0.7
"""Of the log-probabilities of one policy at two temperatures. Of unrelated policies, too, half of
the distance is a slope."""

ONE_WAY = 0.9
"""Least net move of the log-odds of likely tokens, as a share of all of it, under a temperature: it
is 1 but for rounding. In dumps of SmolLM2 other weights have 0.3, and rounding 0.03."""

NEGLIGIBLE = 1e-6
"""k3 below which nothing is left to explain: rounding of float32."""


def mismatch(counted: Counted) -> dict[str, float]:
    """`objectives.mismatch_diagnostics` of the counted tokens."""
    return mismatch_diagnostics(_tensor(counted.rollout), _tensor(counted.trainer))


def measure(counted: Counted) -> dict[str, float]:
    """The metrics of docs/metrics.md that the dumps have the columns for."""
    rollout, trainer = _tensor(counted.rollout), _tensor(counted.trainer)
    metrics = mismatch(counted) | weight_diagnostics(trainer, rollout)
    if counted.entropy is not None:
        entropy = _tensor(counted.entropy)
        metrics |= {"entropy": float(counted.entropy.mean())}
        metrics |= sampling_diagnostics(rollout, trainer, entropy)
        metrics |= temperature_diagnostics(rollout, trainer, entropy)
    if counted.flips is not None and counted.flips.size:
        metrics["routing_disagreement"] = float(counted.flips.mean())
        metrics["routing_disagreement_any_layer"] = float(counted.flips.any(axis=1).mean())
    return metrics


def temperature(counted: Counted) -> Finding | None:
    """Rounding does not act like a temperature."""
    if mismatch(counted)["mismatch_kl_k3"] < NEGLIGIBLE or out_of_reach(counted):
        return None
    ratio, share = _temperature(counted)
    if (
        _correlation(counted) < MIN_CORRELATION
        or share < DOMINANT_SHARE
        or abs(ratio - 1) < MIN_TEMPERATURE_DIFFERENCE
    ):
        return None
    return Finding.of(DumpCause.TEMPERATURE, share=share, ratio=short_number(ratio))


def _correlation(counted: Counted) -> float:
    one = counted.rollout - counted.rollout.mean()
    other = counted.trainer - counted.trainer.mean()
    spread = float(np.sqrt(np.square(one).sum() * np.square(other).sum()))
    return float((one * other).sum()) / spread if spread > 0 else 0.0


def _temperature(counted: Counted) -> tuple[float, float]:
    """Ratio of temperatures, and the share of the mismatch that it explains."""
    slope = slope_within_contexts(counted)
    if slope is not None and slope.tokens >= FEWEST_BRANCHES:
        return slope.ratio, slope.share
    if counted.entropy is not None:
        found = temperature_diagnostics(
            _tensor(counted.rollout), _tensor(counted.trainer), _tensor(counted.entropy)
        )
        return found["temperature_ratio"], found["temperature_share"]
    line = line_of_log_odds(log_odds(counted))
    return line.ratio, line.share if line.one_way >= ONE_WAY else 0.0


def out_of_reach(counted: Counted) -> float:
    """Probability of the trainer's that the engine cannot sample: 1 - E[u] = k1 - k3.

    0 unless it exceeds its noise, and nearly every token is likelier in the engine.
    """
    weights = np.exp(counted.difference)
    missing = 1 - weights.mean()
    error = weights.std() / np.sqrt(len(weights))
    likelier = np.mean(counted.difference > 0.02)
    if missing < MAX_DRAW_DEVIATION * error or likelier > 0.05:
        return 0.0
    return float(missing)


def engine_filter(counted: Counted) -> Finding | None:
    """Every token that the trainer could sample, the engine could sample too."""
    missing = out_of_reach(counted)
    if missing < MIN_SURPRISAL_SHARE / RAREST_SURPRISAL:
        return None
    return Finding.of(DumpCause.FILTER, missing=missing)


def sampling(counted: Counted) -> Finding | None:
    """Tokens are drawn from the probabilities that the engine reports."""
    if counted.entropy is not None:
        found = sampling_diagnostics(
            _tensor(counted.rollout), _tensor(counted.trainer), _tensor(counted.entropy)
        )
        gap, units = found["surprisal_gap"], found["surprisal_gap_z"]
        if abs(units) >= MAX_SURPRISAL_Z and abs(gap) >= MIN_SURPRISAL_SHARE * np.mean(
            counted.entropy
        ):
            seen = (
                f"The sampled tokens are {short_number(abs(gap))} nats "
                f"{'less' if gap < 0 else 'more'} surprising than their distributions predict, "
                f"{short_number(abs(units))} standard errors."
            )
            return Finding.of(DumpCause.SAMPLING, seen=seen)
    probabilities = np.exp(np.minimum(counted.rollout, 0.0))
    new = novelties(counted, probabilities)
    rare = second_choices(probabilities)
    if abs(new.deviation) >= MAX_DRAW_DEVIATION:
        seen = (
            f"After equal texts, {new.seen:.0f} tokens were drawn once only, and the reported "
            f"probabilities predict {new.expected:.0f}."
        )
        return Finding.of(DumpCause.SAMPLING, seen=seen)
    if rare.deviation <= -MAX_DRAW_DEVIATION:
        seen = (
            f"Where one token is likely, another one was drawn {rare.seen:.0f} times at most, and "
            f"the reported probabilities predict {rare.expected:.0f}."
        )
        return Finding.of(DumpCause.SAMPLING, seen=seen)
    return None


def _tensor(values: ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))
