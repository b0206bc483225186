"""Limits are those that the objectives and corrections keep to."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from steadyrl.objectives import (
    Divergence,
    Limited,
    MismatchLevel,
    TokenTerms,
    cispo,
    cispo_limits,
    dppo,
    dppo_limits,
    dual_clip,
    dual_clip_limits,
    grpo,
    grpo_limits,
    gspo_limits,
    gspo_token,
    masked_mismatch,
    masking_limits,
    minirl,
    minirl_limits,
    truncated_mismatch,
    truncation_limits,
    unlimited,
)

KL = {"divergence": Divergence.KL, "threshold": 0.05, "weight_cap": 2.0}
WIDE = {"clip_low": 0.2, "clip_high": 0.27}
NARROW = {"clip_low": 0.05, "clip_high": 1e-3}
DUAL = {"ratio_cap": 1.5}
STOPPING: dict[str, tuple[Callable[..., Tensor], Callable[..., Limited]]] = {
    "minirl": (minirl, minirl_limits),
    "grpo": (grpo, grpo_limits),
    "dual_clip": (partial(dual_clip, **DUAL), partial(dual_clip_limits, **DUAL)),
    "gspo_token": (partial(gspo_token, **NARROW), partial(gspo_limits, **NARROW)),
    "dppo_tv": (dppo, dppo_limits),
    "dppo_kl": (partial(dppo, **KL), partial(dppo_limits, **KL)),
}


@pytest.mark.parametrize("name", STOPPING)
def test_tokens_are_clipped_where_the_objective_takes_their_gradient_away(
    scattered_terms: TokenTerms, name: str
) -> None:
    objective, limits = STOPPING[name]
    terms, limited = scattered_terms, limits(scattered_terms)
    (gradient,) = torch.autograd.grad(objective(terms).sum(), terms.logprobs)
    stopped = terms.loss_mask & (gradient == 0)
    if name == "dual_clip":
        assert limited.truncated.any()
        stopped &= ~limited.truncated
    assert torch.equal(limited.clipped_low, stopped & (terms.advantages < 0))
    assert torch.equal(limited.clipped_high, stopped & (terms.advantages > 0))
    assert limited.clipped_low.any()
    assert limited.clipped_high.any()


@pytest.mark.parametrize(
    ("limits", "uncapped", "capped"),
    [
        (minirl_limits, partial(minirl, weight_cap=math.inf), minirl),
        (
            partial(minirl_limits, weight_cap=1.5, correct_mismatch=False),
            partial(minirl, weight_cap=math.inf, correct_mismatch=False),
            partial(minirl, weight_cap=1.5, correct_mismatch=False),
        ),
        (
            partial(dppo_limits, weight_cap=2.0),
            partial(dppo, weight_cap=math.inf),
            partial(dppo, weight_cap=2.0),
        ),
        (
            partial(dual_clip_limits, **DUAL),
            partial(dual_clip, ratio_cap=math.inf),
            partial(dual_clip, **DUAL),
        ),
        (truncation_limits, partial(truncated_mismatch, cap=math.inf), truncated_mismatch),
    ],
)
def test_weights_are_truncated_where_the_cap_makes_a_difference(
    scattered_terms: TokenTerms,
    limits: Callable[..., Limited],
    uncapped: Callable[..., Tensor],
    capped: Callable[..., Tensor],
) -> None:
    limited = limits(scattered_terms)
    differs = uncapped(scattered_terms) != capped(scattered_terms)
    stopped = torch.zeros_like(differs)
    if limited.clipped_low is not None:  # a token without gradient shows no weight
        stopped = limited.clipped_low | limited.clipped_high
    assert torch.equal(limited.truncated & ~stopped, differs)
    assert differs.any()
    assert not (limited.truncated & ~scattered_terms.loss_mask).any()


def test_weights_of_cispo_are_clipped_under_either_sign(make_terms) -> None:
    # Ratios 2, 1/2, 1, 2 and 1/2.
    old = torch.tensor([2.0, 0.5, 1.0, 2.0, 0.5]).log()
    terms = make_terms([-1.0] * 5, old=-1.0 - old, advantages=[1.0, 1.0, 1.0, -1.0, -1.0])
    limited = cispo_limits(terms, **WIDE)
    assert limited.clipped_high[0].tolist() == [True, False, False, True, False]
    assert limited.clipped_low[0].tolist() == [False, True, False, False, True]
    clipped = cispo(terms, **WIDE) != cispo(terms, clip_low=math.inf, clip_high=math.inf)
    assert torch.equal(limited.clipped_low | limited.clipped_high, clipped)


@pytest.mark.parametrize("level", MismatchLevel)
def test_tokens_are_masked_where_the_correction_leaves_them_out(
    scattered_terms: TokenTerms, level: MismatchLevel
) -> None:
    limited = masking_limits(scattered_terms, level=level, low=0.8, high=1.2)
    weights = masked_mismatch(scattered_terms, level=level, low=0.8, high=1.2)
    assert torch.equal(limited.masked, scattered_terms.loss_mask & (weights == 0))
    assert limited.masked.any()


def test_limits_of_an_objective_and_its_correction_are_joined(make_terms) -> None:
    terms = make_terms([-1.0, -1.0, -1.0], old=[-3.0, -1.0, -1.0], rollout=[-3.0, -3.0, -1.0])
    both = dual_clip_limits(terms, clip_high=9.0) | truncation_limits(terms)
    assert both.truncated.tolist() == [[False, True, False]]
    assert both.clipped_high.tolist() == [[False, False, False]]
    assert both.masked is None
    negative = make_terms([-1.0, -1.0], old=[-3.0, -1.0], rollout=[-3.0, -3.0], advantages=-1.0)
    both = dual_clip_limits(negative) | truncation_limits(negative)
    assert both.truncated.tolist() == [[True, True]]
    assert unlimited(terms) | unlimited(terms) == Limited()
