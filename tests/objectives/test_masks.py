"""Masks are those that the objectives and corrections keep to."""

import math
from dataclasses import fields

import pytest
import torch

from steadyrl.objectives import (
    CISPO,
    DPPO,
    GRPO,
    GSPO,
    ClipMasks,
    Divergence,
    DualClip,
    GSPOToken,
    Masking,
    MiniRL,
    MismatchLevel,
    Objective,
    ReferenceKL,
    Reinforce,
    TokenTerms,
    Truncation,
)

NARROW = {"clip_low": 0.05, "clip_high": 1e-3}
STOPPING: dict[str, Objective] = {
    "minirl": MiniRL(),
    "grpo": GRPO(),
    "dual_clip": DualClip(ratio_cap=1.5),
    "gspo_token": GSPOToken(**NARROW),
    "dppo_tv": DPPO(),
    "dppo_kl": DPPO(divergence=Divergence.KL, threshold=0.05, weight_cap=2.0),
}


@pytest.mark.parametrize("name", STOPPING)
def test_tokens_are_clipped_where_the_objective_takes_their_gradient_away(
    scattered_terms: TokenTerms, name: str
) -> None:
    objective, terms = STOPPING[name], scattered_terms
    masks = objective.masks(terms)
    (gradient,) = torch.autograd.grad(objective(terms).sum(), terms.logprobs)
    stopped = terms.loss_mask & (gradient == 0)
    if name == "dual_clip":
        assert masks.truncated.any()
        stopped &= ~masks.truncated
    assert torch.equal(masks.clipped_low, stopped & (terms.advantages < 0))
    assert torch.equal(masks.clipped_high, stopped & (terms.advantages > 0))
    assert masks.clipped_low.any()
    assert masks.clipped_high.any()


def test_gspo_clips_the_tokens_that_gspo_token_clips(scattered_terms: TokenTerms) -> None:
    # The gradient of GSPO at a token is that of its whole response, so it does not tell.
    masks, expected = GSPO(**NARROW).masks(scattered_terms), GSPOToken(**NARROW)
    assert torch.equal(masks.clipped_low, expected.masks(scattered_terms).clipped_low)
    assert torch.equal(masks.clipped_high, expected.masks(scattered_terms).clipped_high)


@pytest.mark.parametrize(
    ("capped", "uncapped"),
    [
        (MiniRL(), MiniRL(weight_cap=math.inf)),
        (
            MiniRL(weight_cap=1.5, correct_mismatch=False),
            MiniRL(weight_cap=math.inf, correct_mismatch=False),
        ),
        (DPPO(weight_cap=2.0), DPPO(weight_cap=math.inf)),
        (DualClip(ratio_cap=1.5), DualClip(ratio_cap=math.inf)),
        (Truncation().apply_to(Reinforce()), Truncation(cap=math.inf).apply_to(Reinforce())),
    ],
)
def test_weights_are_truncated_where_the_cap_makes_a_difference(
    scattered_terms: TokenTerms, capped: Objective, uncapped: Objective
) -> None:
    masks = capped.masks(scattered_terms)
    differs = uncapped(scattered_terms) != capped(scattered_terms)
    stopped = torch.zeros_like(differs)
    if masks.clipped_low is not None:  # a token without gradient shows no weight
        stopped = masks.clipped_low | masks.clipped_high
    assert torch.equal(masks.truncated & ~stopped, differs)
    assert differs.any()
    assert not (masks.truncated & ~scattered_terms.loss_mask).any()


def test_weights_of_cispo_are_clipped_under_either_sign(make_terms) -> None:
    # Ratios 2, 1/2, 1, 2 and 1/2.
    old = torch.tensor([2.0, 0.5, 1.0, 2.0, 0.5]).log()
    terms = make_terms([-1.0] * 5, old=-1.0 - old, advantages=[1.0, 1.0, 1.0, -1.0, -1.0])
    masks = CISPO().masks(terms)
    assert masks.clipped_high[0].tolist() == [True, False, False, True, False]
    assert masks.clipped_low[0].tolist() == [False, True, False, False, True]
    clipped = CISPO()(terms) != CISPO(clip_low=math.inf, clip_high=math.inf)(terms)
    assert torch.equal(masks.clipped_low | masks.clipped_high, clipped)


@pytest.mark.parametrize("level", MismatchLevel)
def test_tokens_are_masked_where_the_correction_leaves_them_out(
    scattered_terms: TokenTerms, level: MismatchLevel
) -> None:
    masks = Masking(level=level, low=0.8, high=1.2).masks(scattered_terms)
    weights = Masking(level=level, low=0.8, high=1.2).weights(scattered_terms)
    assert torch.equal(masks.masked, scattered_terms.loss_mask & (weights == 0))
    assert masks.masked.any()


def test_masks_of_an_objective_and_its_correction_are_joined(make_terms) -> None:
    terms = make_terms([-1.0, -1.0, -1.0], old=[-3.0, -1.0, -1.0], rollout=[-3.0, -3.0, -1.0])
    both = Truncation().apply_to(DualClip(clip_high=9.0)).masks(terms)
    assert both.truncated.tolist() == [[False, True, False]]
    assert both.clipped_high.tolist() == [[False, False, False]]
    assert both.masked is None
    negative = make_terms([-1.0, -1.0], old=[-3.0, -1.0], rollout=[-3.0, -3.0], advantages=-1.0)
    both = Truncation().apply_to(DualClip()).masks(negative)
    assert both.truncated.tolist() == [[True, True]]
    assert ClipMasks() | ClipMasks() == ClipMasks()


CLIPPED = ["clipped_low", "clipped_high"]


@pytest.mark.parametrize(
    ("objective", "kinds"),
    [
        (MiniRL(), [*CLIPPED, "truncated"]),
        (GRPO(), CLIPPED),
        (Truncation().apply_to(GRPO()), [*CLIPPED, "truncated"]),
        (Masking().apply_to(GRPO()), [*CLIPPED, "masked"]),
        (ReferenceKL(coefficient=0.1).apply_to(GRPO()), CLIPPED),
        (CISPO(), CLIPPED),
        (GSPO(), CLIPPED),
        (GSPOToken(), CLIPPED),
        (DualClip(), [*CLIPPED, "truncated"]),
        (DPPO(), [*CLIPPED, "truncated"]),
        (Reinforce(), []),
        (Masking().apply_to(Reinforce()), ["masked"]),
    ],
)
def test_an_objective_reports_the_bounds_that_it_has(
    scattered_terms: TokenTerms, objective: Objective, kinds: list[str]
) -> None:
    masks = objective.masks(scattered_terms)
    assert [field.name for field in fields(masks) if getattr(masks, field.name) is not None] == (
        kinds
    )
