import math

import pytest

from steadyrl.objectives import CISPO, TokenTerms


def test_cispo_clips_the_weight_and_keeps_the_gradient(scattered_terms: TokenTerms) -> None:
    terms = scattered_terms
    value = CISPO(clip_low=0.3, clip_high=0.5)(terms)
    value.sum().backward()
    branches = set()
    for i, t in terms.loss_mask.nonzero().tolist():
        logprob = terms.logprobs[i, t].item()
        ratio = math.exp(logprob) / math.exp(terms.old_logprobs[i, t].item())
        clipped = min(max(ratio, 0.7), 1.5)
        branches.add((ratio > clipped) - (ratio < clipped))
        coefficient = clipped * terms.advantages[i, t].item()
        assert value[i, t].item() == pytest.approx(coefficient * logprob, rel=1e-12)
        assert terms.logprobs.grad[i, t].item() == pytest.approx(coefficient, rel=1e-12)
    assert branches == {-1, 0, 1}


def test_infinite_bounds_leave_the_plain_ratio(make_terms) -> None:
    terms = make_terms([-1.0, -4.0], old=[-4.0, -1.0])
    CISPO(clip_low=math.inf, clip_high=math.inf)(terms).sum().backward()
    assert terms.logprobs.grad[0].tolist() == pytest.approx([math.exp(3), math.exp(-3)])
