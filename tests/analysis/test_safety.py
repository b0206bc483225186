"""Verdicts, and where their limits are from."""

import json
import math
from importlib.resources import files

import pytest

from steadyrl.analysis.safety import (
    LIMITS,
    Finding,
    SafetyLimit,
    Verdict,
    first_step_findings,
    first_step_note,
)

ABOVE = SafetyLimit(title="t", above=True, safe=1.0, unsafe=2.0, source="s")
BELOW = SafetyLimit(title="t", above=False, safe=0.9, unsafe=0.5, source="s")


@pytest.mark.parametrize(
    ("limit", "value", "verdict"),
    [
        (ABOVE, 1.0, Verdict.SAFE),
        (ABOVE, 1.5, Verdict.WATCH),
        (ABOVE, 2.0, Verdict.WATCH),
        (ABOVE, 2.1, Verdict.UNSAFE),
        (ABOVE, math.nan, Verdict.UNSAFE),
        (BELOW, 0.9, Verdict.SAFE),
        (BELOW, 0.6, Verdict.WATCH),
        (BELOW, 0.4, Verdict.UNSAFE),
    ],
)
def test_values_up_to_a_limit_are_within_it(
    limit: SafetyLimit, value: float, verdict: Verdict
) -> None:
    assert limit.judge(value) is verdict


def test_where_it_is_not_known_what_hurts_nothing_is_unsafe() -> None:
    limit = SafetyLimit(title="t", above=True, safe=0.04, unsafe=None, source="published")

    assert limit.judge(1e9) is Verdict.WATCH
    assert (limit.text, ABOVE.text) == ("safe to 0.04", "safe to 1, unsafe above 2")
    assert BELOW.text == "safe from 0.9, unsafe below 0.5"


def test_limits_of_the_mismatch_are_those_that_were_measured() -> None:
    file = files("steadyrl.analysis") / "measured_limits.json"
    measured = json.loads(file.read_text(encoding="utf-8"))["limits"]["mismatch_kl_k3"]

    assert (LIMITS["kl"].safe, LIMITS["kl"].unsafe) == (measured["safe"], measured["unsafe"])
    assert LIMITS["kl_routing"].safe == LIMITS["company_engine"].safe == measured["safe"]


def test_every_limit_says_where_it_is_from_and_has_its_ends_in_order() -> None:
    for limit in LIMITS.values():
        assert limit.source
        if limit.safe is not None and limit.unsafe is not None:
            ends = (limit.safe, limit.unsafe)
            assert list(ends) == sorted(ends, reverse=not limit.above), limit.title


def test_the_first_step_answers_what_its_metrics_say() -> None:
    metrics = {"mismatch_kl_k3": 1e-3, "truncated_fraction": 0.75, "no_signal_fraction": 0.6}

    found = {f.question: f.verdict for f in first_step_findings(metrics)}

    assert found == {"kl": "safe", "truncated": "unsafe", "no_signal": "watch"}
    note = first_step_note(metrics)
    assert note is not None
    assert "Answers cut short: 0.75, unsafe (safe to 0.1, unsafe above 0.5)" in note
    assert "KL" not in note
    assert first_step_note({"mismatch_kl_k3": 1e-3}) is None


def test_what_was_not_measured_has_no_verdict() -> None:
    assert Finding.missing("gold", "none").verdict is None
