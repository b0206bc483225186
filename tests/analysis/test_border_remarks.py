"""Warnings beyond the measured borders."""

import pytest
from tests.analysis.diagnosed_runs import stage

from steadyrl.analysis.border_remarks import border_remarks
from steadyrl.analysis.remedy_rule import Origin, measured_rule
from steadyrl.analysis.run_settings import RunSettings

NUMERICS = measured_rule().limits[Origin.NUMERICS]
STEPS = 6


@pytest.mark.parametrize(("weighted", "remedy"), [(True, None), (False, "importance weights")])
def test_a_mismatch_beyond_its_border_is_named_with_the_remedy(
    weighted: bool, remedy: str | None
) -> None:
    k3 = 1.1 * NUMERICS["importance weights" if weighted else "none"]
    settings = RunSettings(importance_weights=weighted)
    (found,) = border_remarks(stage(mismatch_kl_k3=[k3] * STEPS), settings)

    assert found.startswith("Numerics: a mismatch k3 of ")
    assert (f"use {remedy}" if remedy else "mend the cause") in found


@pytest.mark.parametrize(
    ("metrics", "settings"),
    [
        ({"mismatch_kl_k3": [1e-3] * STEPS}, RunSettings()),
        ({"mismatch_kl_k3": [9.0] * (STEPS - 1)}, RunSettings()),
        ({"mismatch_kl_k3": [9.0] * STEPS}, RunSettings(partial_log=True)),
        ({"staleness_kl_k3": [9.0] * STEPS}, RunSettings()),
        # Without clipping every dose of the learning rate lay beyond the border.
        (
            {"mismatch_kl_k3": [1e-3] * STEPS, "staleness_kl_k3": [1e-6] * STEPS},
            RunSettings(clips=False),
        ),
    ],
)
def test_nothing_is_said_of_what_is_within_or_not_known(
    metrics: dict[str, list[float]], settings: RunSettings
) -> None:
    assert border_remarks(stage(**metrics), settings) == ()
