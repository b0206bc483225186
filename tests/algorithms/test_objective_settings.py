"""Settings of objectives and corrections, and the functions that they become."""

import math
import pickle
from dataclasses import fields
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from tests.algorithms.terms import far_apart

from steadyrl.algorithms.objective_settings import (
    CISPO,
    CORRECTIONS,
    DPPO,
    GRPO,
    GSPO,
    LIMITS,
    OBJECTIVES,
    CorrectionSettings,
    DualClip,
    GSPOToken,
    Masking,
    MiniRL,
    NoCorrection,
    ObjectiveSettings,
    Reinforce,
    Truncation,
    make_limits,
    make_objective,
    reads_responses,
)
from steadyrl.algorithms.policy_gradient import PolicyGradientSettings
from steadyrl.objectives import (
    Divergence,
    MismatchLevel,
    TokenTerms,
    dppo,
    dual_clip,
    grpo,
    grpo_limits,
    gspo,
    gspo_token,
    masked_mismatch,
    truncated_mismatch,
    truncation_limits,
)


@pytest.fixture
def terms() -> TokenTerms:
    return far_apart()


BOUNDS = {"clip_low": 0.1, "clip_high": 0.4}


def test_objective_settings_reach_their_functions(terms: TokenTerms) -> None:
    region = {"threshold": 0.02, "weight_cap": 2.0}
    pairs = [
        (GSPO(), gspo(terms)),
        (GSPO(**BOUNDS), gspo(terms, **BOUNDS)),
        (GSPOToken(clip_low=0.3, clip_high=0.3), gspo_token(terms, clip_low=0.3, clip_high=0.3)),
        (DualClip(), dual_clip(terms)),
        (DualClip(**BOUNDS, ratio_cap=1.5), dual_clip(terms, **BOUNDS, ratio_cap=1.5)),
        (DPPO(), dppo(terms)),
        (DPPO(divergence=Divergence.KL, **region), dppo(terms, divergence=Divergence.KL, **region)),
    ]
    values = [make_objective(settings)(terms) for settings, _ in pairs]
    for value, (_, expected) in zip(values, pairs, strict=True):
        assert torch.equal(value, expected)
    assert len({tuple(value.flatten().tolist()) for value in values}) == len(pairs)


def test_every_name_has_a_function_and_every_function_a_name() -> None:
    def names(settings: object) -> set[str]:
        return set(TypeAdapter(settings).json_schema()["discriminator"]["mapping"])

    assert names(ObjectiveSettings) == set(OBJECTIVES)
    assert names(CorrectionSettings) == set(CORRECTIONS) | {"none"}
    assert set(LIMITS) == names(ObjectiveSettings) | names(CorrectionSettings)


LIMITED = ["clipped_low", "clipped_high"]


@pytest.mark.parametrize(
    ("objective", "correction", "kinds"),
    [
        (MiniRL(), NoCorrection(), [*LIMITED, "truncated"]),
        (GRPO(), NoCorrection(), LIMITED),
        (GRPO(), Truncation(), [*LIMITED, "truncated"]),
        (GRPO(), Masking(), [*LIMITED, "masked"]),
        (CISPO(), NoCorrection(), LIMITED),
        (GSPO(), NoCorrection(), LIMITED),
        (GSPOToken(), NoCorrection(), LIMITED),
        (DualClip(), NoCorrection(), [*LIMITED, "truncated"]),
        (DPPO(), NoCorrection(), [*LIMITED, "truncated"]),
        (Reinforce(), NoCorrection(), []),
        (Reinforce(), Masking(), ["masked"]),
    ],
)
def test_metrics_know_the_limits_of_an_objective_and_its_correction(
    terms: TokenTerms, objective: Any, correction: Any, kinds: list[str]
) -> None:
    limited = make_limits(objective, correction)(terms)
    found = [field.name for field in fields(limited) if getattr(limited, field.name) is not None]
    assert found == kinds


def test_limits_are_those_of_the_settings() -> None:
    terms = far_apart()
    limits = make_limits(GRPO(**BOUNDS), Truncation(cap=1.3))(terms)
    assert torch.equal(limits.clipped_low, grpo_limits(terms, **BOUNDS).clipped_low)
    assert torch.equal(limits.truncated, truncation_limits(terms, cap=1.3).truncated)
    assert not torch.equal(limits.truncated, truncation_limits(terms).truncated)


@pytest.mark.parametrize("level", MismatchLevel)
def test_corrections_multiply_the_objective(terms: TokenTerms, level: MismatchLevel) -> None:
    plain = grpo(terms, **BOUNDS)
    truncation, masking = Truncation(level=level, cap=1.3), Masking(level=level, low=0.7, high=1.4)
    expected = plain * truncated_mismatch(terms, level=level, cap=1.3)
    assert torch.equal(make_objective(GRPO(**BOUNDS), truncation)(terms), expected)
    expected = plain * masked_mismatch(terms, level=level, low=0.7, high=1.4)
    assert torch.equal(make_objective(GRPO(**BOUNDS), masking)(terms), expected)
    assert torch.equal(make_objective(GRPO(**BOUNDS), NoCorrection())(terms), plain)


def test_a_corrected_objective_travels_between_processes(terms: TokenTerms) -> None:
    objective = make_objective(GRPO(), Truncation())
    assert torch.equal(pickle.loads(pickle.dumps(objective))(terms), objective(terms))


def test_objectives_and_corrections_of_sequences_read_whole_responses() -> None:
    nothing = NoCorrection()
    sequence = MismatchLevel.SEQUENCE_PRODUCT
    assert reads_responses(GSPO(), nothing)
    assert reads_responses(GSPOToken(), Truncation())
    assert reads_responses(GRPO(), Truncation(level=sequence))
    assert reads_responses(GRPO(), Masking(level=MismatchLevel.SEQUENCE_GEOMETRIC_MEAN))
    for objective in (MiniRL(), GRPO(), DPPO(), DualClip()):
        assert not reads_responses(objective, nothing)
    assert not reads_responses(GRPO(), Masking())
    assert not reads_responses(GRPO(), Truncation())


@pytest.mark.parametrize("objective", [MiniRL(), DPPO()])
def test_a_mismatch_is_not_corrected_twice(objective: MiniRL | DPPO) -> None:
    message = (
        rf"correction is 'truncation', but the objective '{objective.name}' weighs tokens by .* "
        "Set correction 'none', or choose an objective .* 'grpo'"
    )
    with pytest.raises(ValidationError, match=message):
        PolicyGradientSettings(objective=objective, correction=Truncation())


def test_the_ablation_of_minirl_may_be_corrected() -> None:
    objective = MiniRL(correct_mismatch=False)
    settings = PolicyGradientSettings(objective=objective, correction=Masking())
    assert settings.correction == Masking(low=0.5, high=5.0)


@pytest.mark.parametrize(
    ("low", "high"), [(2.0, 2.0), (3.0, 1.0), (1.5, 5.0), (0.0, 0.9), (1.0, 1.0)]
)
def test_a_mask_of_agreement_is_refused(low: float, high: float) -> None:
    message = rf"low is {low} and high is {high}, but a mismatch of 1 is agreement, .* Set low to"
    with pytest.raises(ValidationError, match=message):
        Masking(low=low, high=high)


def test_bounds_are_switched_off_by_infinity(terms: TokenTerms) -> None:
    off = {"clip_low": math.inf, "clip_high": math.inf}
    ratio = grpo(terms, **off)
    assert torch.equal(make_objective(DualClip(**off, ratio_cap=math.inf))(terms), ratio)
    mismatch = truncated_mismatch(terms, cap=math.inf)
    masking = Masking(low=0.0, high=math.inf)
    assert torch.equal(make_objective(GRPO(**off), masking)(terms), ratio * mismatch)
