"""A preflight from end to end on a small model."""

from typing import Any

import pytest

from steadyrl.algorithms.policy_gradient import PolicyGradientSettings
from steadyrl.analysis.safety import LIMITS, Verdict
from steadyrl.engines.local import LocalEngineSettings
from steadyrl.objectives import ReferenceKL
from steadyrl.policies.model_settings import SmallDense
from steadyrl.policies.numerics import Numerics
from steadyrl.preflight import PreflightSettings, Report, preflight
from steadyrl.records.routing import RoutingReplay
from tests.run.tiny import tiny_run

SHORT = PreflightSettings(prompts=4, samples=4)
DENSE: dict[str, Any] = {
    "model": SmallDense(layers=1, width=16, heads=2, kv_heads=1, head_dim=8, max_positions=64),
    "routing_replay": RoutingReplay.NONE,
    "cold_start": None,
}


def values(report: Report) -> dict[str, float | None]:
    return {finding.question: finding.value for finding in report.findings}


def test_every_question_has_a_row() -> None:
    report = preflight(tiny_run(), SHORT)

    assert sorted(values(report)) == sorted(LIMITS)
    assert report.tokens > 0
    assert report.cost is not None
    assert report.cost.run_seconds > report.cost.step_seconds > 0
    assert "Measured before the cold start." in report.notes
    assert report.to_values()["findings"][0]["question"] == "memory"


def test_float32_engines_agree_with_the_trainer_and_get_its_weights() -> None:
    config = tiny_run(**DENSE, engine=LocalEngineSettings(numerics=Numerics.FLOAT32))

    found = {f.question: f for f in preflight(config, SHORT).findings}

    for question in ("kl", "kl_decoding", "kl_rounding", "company_engine", "company_trainer"):
        assert found[question].value == pytest.approx(0, abs=1e-9), question
    assert found["kl_routing"].verdict is None
    assert found["canary"].verdict is Verdict.SAFE
    assert (found["gold"].value, found["garbage"].value) == (1.0, 0.0)


def test_rounding_and_routing_are_told_apart() -> None:
    found = values(preflight(tiny_run(), SHORT))

    assert found["kl"] is not None
    assert found["kl_rounding"] is not None
    assert found["kl"] > 1e-7
    assert found["kl_rounding"] > 1e-7


def test_a_reference_policy_is_there_for_the_discarded_update() -> None:
    algorithm = PolicyGradientSettings(
        prompts=4, group_size=4, reference_kl=ReferenceKL(coefficient=0.1)
    )

    assert preflight(tiny_run(**DENSE, algorithm=algorithm), SHORT).cost is not None


def test_what_does_not_fit_is_not_loaded() -> None:
    huge = SmallDense(width=1 << 18, mlp_width=1 << 18)
    report = preflight(tiny_run(**{**DENSE, "model": huge}), SHORT)

    assert report.verdict is Verdict.UNSAFE
    assert list(values(report)) == ["memory"]
    assert report.cost is None
    assert "billion parameters needs about" in report.notes[0]
