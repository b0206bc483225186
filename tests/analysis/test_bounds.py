"""Texts, documents, diagnosis and report call the same values healthy."""

import re
from pathlib import Path

import pytest
from tests.analysis.diagnosed_runs import run, sound

from steadyrl.analysis import bounds
from steadyrl.analysis.diagnosis import READ, Status, diagnose
from steadyrl.analysis.metric_texts import METRIC_TEXTS
from steadyrl.analysis.remarks import CHECKS

DOCUMENT = Path(__file__).parents[2] / "docs" / "diagnose.md"

BOUNDS = {
    "extreme_token_fraction": (bounds.EXTREME_TOKENS, "above"),
    "ess": (bounds.HALF_THE_TOKENS, "below"),
    "environment_failed_fraction": (bounds.MANY_FAILURES, "above"),
    "update_reached_fraction": (bounds.REACHED, "below"),
    "truncated_fraction": (bounds.TRUNCATED, "above"),
    "score_failed_fraction": (bounds.MANY_FAILURES, "above"),
    "drift_loglikelihood": (-bounds.FORGOTTEN, "below"),
    "engine_update_reached_fraction": (bounds.REACHED, "below"),
    "surprisal_gap_z": (bounds.SURPRISAL_NOISE, "above"),
    "routing_disagreement": (bounds.HALF, "above"),
}
"""(end of the healthy range, where trouble lies) by metric."""

WITH_IT = {"surprisal_gap_z": {"surprisal_gap": [0.1] * 8}}
"""What else the sign needs."""


def is_calm(metric: str, value: float) -> bool:
    """Whether a sound run with `value` of the metric is healthy, with nothing worth a look."""
    found = diagnose(run(sound(**{metric: [value] * 8}, **WITH_IT.get(metric, {}))))
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
    assert (
        f"Healthy: up to {bounds.TENFOLD:g} times its first steps" in METRIC_TEXTS[metric].meaning
    )
    for growth, status in ((9.9, Status.HEALTHY), (10.1, Status.ABOUT_TO_COLLAPSE)):
        course = [0.002] * 4 + [0.002 * growth] * 4
        assert diagnose(run(sound(**{metric: course}))).status is status


def test_numbers_are_called_healthy_only_where_something_is_judged() -> None:
    judged = {*READ, *(check.metric for check in CHECKS), "temperature_share"}
    judged |= {"update_reached_fraction", "engine_update_reached_fraction", "drift_loglikelihood"}
    named = {
        name for name, text in METRIC_TEXTS.items() if re.search(r"Healthy: [^.]*\d", text.meaning)
    }
    assert named <= judged


@pytest.mark.parametrize(
    ("row", "bound"),
    [
        ("environment that fails", f"more than {bounds.MANY_FAILURES:.0%}"),
        ("updates do not reach the policy", f"below {bounds.REACHED:g}"),
        ("nothing to learn from", f"{bounds.WITHOUT_SIGNAL:.0%}"),
        ("drift of general texts", f"below {-bounds.FORGOTTEN:g}"),
        ("different policies", f"above {bounds.EXTREME_TOKENS:g}"),
        ("sampling that the log-probabilities leave out", f"beyond {bounds.SURPRISAL_NOISE:g}"),
        ("staleness KL (k3)", f"{bounds.KL_OF_AN_UPDATE:g} nats"),
        ("`F(2)`", f"{bounds.EXTREME_TOKENS:g}"),
        ("effective sample size", f"{bounds.HALF_THE_TOKENS:g}"),
    ],
)
def test_the_document_has_the_same_bounds(row: str, bound: str) -> None:
    rows = DOCUMENT.read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in rows if line.startswith(f"| {row} |")]
    assert bound in line
