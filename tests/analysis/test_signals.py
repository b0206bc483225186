"""Texts, documents, diagnosis and report call the same values healthy."""

import re
from pathlib import Path

import pytest
from tests.analysis.diagnosed_runs import diagnosis, sound

from steadyrl.analysis import signals
from steadyrl.analysis.diagnosis import READ, Status
from steadyrl.analysis.metric_texts import METRIC_TEXTS
from steadyrl.analysis.remarks import CHECKS

DOCUMENT = Path(__file__).parents[2] / "docs" / "diagnose.md"

BOUNDS = {
    "extreme_token_fraction": (signals.MAX_EXTREME_TOKENS, "above"),
    "ess": (signals.MIN_ESS, "below"),
    "environment_failed_fraction": (signals.MAX_ENVIRONMENT_FAILURES, "above"),
    "update_reached_fraction": (signals.MIN_UPDATE_REACHED, "below"),
    "truncated_fraction": (signals.MAX_TRUNCATED, "above"),
    "score_failed_fraction": (signals.MAX_ENVIRONMENT_FAILURES, "above"),
    "drift_loglikelihood": (-signals.MAX_FORGETTING, "below"),
    "engine_update_reached_fraction": (signals.MIN_UPDATE_REACHED, "below"),
    "surprisal_gap_z": (signals.MAX_SURPRISAL_Z, "above"),
    "routing_disagreement": (signals.DOMINANT_SHARE, "above"),
}
"""(end of the healthy range, where trouble lies) by metric."""

WITH_IT = {"surprisal_gap_z": {"surprisal_gap": [0.1] * 8}}
"""What else the sign needs."""


def is_calm(metric: str, value: float) -> bool:
    """Whether a sound run with `value` of the metric is healthy, with nothing worth a look."""
    found = diagnosis(sound(**{metric: [value] * 8}, **WITH_IT.get(metric, {})))
    return found.status is Status.HEALTHY and not found.evidence and not found.remarks


@pytest.mark.parametrize("metric", BOUNDS)
def test_a_value_is_healthy_in_the_text_exactly_where_nothing_is_found(metric: str) -> None:
    bound, side = BOUNDS[metric]
    outwards = (0.01 if side == "above" else -0.01) * abs(bound)
    inside, outside = bound - outwards, bound + outwards

    assert f"{bound:g}" in METRIC_TEXTS[metric].meaning.partition("Healthy: ")[2]
    assert is_calm(metric, inside)
    assert not is_calm(metric, outside)


@pytest.mark.parametrize("metric", ["mismatch_kl_k3", "gradient_norm"])
def test_ten_times_the_first_steps_is_the_end_in_text_and_diagnosis(metric: str) -> None:
    healthy = f"Healthy: up to {signals.MAX_GROWTH:g} times its first steps"
    assert healthy in METRIC_TEXTS[metric].meaning
    for growth, status in ((9.9, Status.HEALTHY), (10.1, Status.ABOUT_TO_COLLAPSE)):
        course = [0.002] * 4 + [0.002 * growth] * 4
        assert diagnosis(sound(**{metric: course})).status is status


def test_numbers_are_called_healthy_only_where_something_is_judged() -> None:
    judged = {*READ, *CHECKS, "temperature_share"}
    judged |= {"update_reached_fraction", "engine_update_reached_fraction", "drift_loglikelihood"}
    named = {
        name for name, text in METRIC_TEXTS.items() if re.search(r"Healthy: [^.]*\d", text.meaning)
    }
    assert named <= judged


@pytest.mark.parametrize(
    ("row", "bound"),
    [
        ("environment that fails", f"more than {signals.MAX_ENVIRONMENT_FAILURES:.0%}"),
        ("updates do not reach the policy", f"below {signals.MIN_UPDATE_REACHED:g}"),
        ("nothing to learn from", f"{signals.MAX_NO_SIGNAL:.0%}"),
        ("drift of general texts", f"below {-signals.MAX_FORGETTING:g}"),
        ("different policies", f"above {signals.MAX_EXTREME_TOKENS:g}"),
        ("sampling that the log-probabilities leave out", f"beyond {signals.MAX_SURPRISAL_Z:g}"),
        ("staleness KL (k3)", f"{signals.MAX_UPDATE_KL:g} nats"),
        ("`F(2)`", f"{signals.MAX_EXTREME_TOKENS:g}"),
        ("effective sample size", f"{signals.MIN_ESS:g}"),
    ],
)
def test_the_document_has_the_same_bounds(row: str, bound: str) -> None:
    rows = DOCUMENT.read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in rows if line.startswith(f"| {row} |")]
    assert bound in line
