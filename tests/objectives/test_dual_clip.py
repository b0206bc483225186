import math

import pytest
import torch

from steadyrl.objectives import GRPO, DualClip, TokenTerms


def test_dual_clip_is_the_clipped_surrogate_with_a_floor(scattered_terms: TokenTerms) -> None:
    terms = scattered_terms
    value = DualClip(clip_low=0.2, clip_high=0.3, ratio_cap=1.5)(terms)
    value.sum().backward()
    branches = set()
    for i, t in terms.loss_mask.nonzero().tolist():
        advantage = terms.advantages[i, t].item()
        ratio = math.exp(terms.logprobs[i, t].item()) / math.exp(terms.old_logprobs[i, t].item())
        clipped = min(max(ratio, 0.8), 1.3)
        surrogate = min(ratio * advantage, clipped * advantage)
        expected = max(surrogate, 1.5 * advantage) if advantage < 0 else surrogate
        constant = expected != ratio * advantage
        branches.add((advantage > 0, constant, ratio > 1))
        assert value[i, t].item() == pytest.approx(expected, rel=1e-12)
        slope = 0.0 if constant else ratio * advantage
        assert terms.logprobs.grad[i, t].item() == pytest.approx(slope, rel=1e-12)
    capped, clipped_above, clipped_below = (
        (False, True, True),
        (True, True, True),
        (False, True, False),
    )
    assert branches >= {capped, clipped_above, clipped_below}


@pytest.mark.parametrize(("ratio", "gradient"), [(2.99, -2.99), (3.01, 0.0)])
def test_default_cap_is_three(make_terms, ratio: float, gradient: float) -> None:
    terms = make_terms([-1.0], old=[-1.0 - math.log(ratio)], advantages=-1.0)
    value = DualClip()(terms)
    value.sum().backward()
    assert value.item() == pytest.approx(-min(ratio, 3.0))
    assert terms.logprobs.grad.item() == pytest.approx(gradient)


def test_a_good_token_is_not_capped_but_clipped(make_terms) -> None:
    terms = make_terms([-1.0], old=[-1.0 - math.log(10)])
    assert DualClip()(terms).item() == pytest.approx(1.2)


def test_without_its_cap_it_is_the_clipped_surrogate(scattered_terms: TokenTerms) -> None:
    value = DualClip(clip_low=0.2, clip_high=0.27, ratio_cap=math.inf)(scattered_terms)
    assert torch.equal(value, GRPO()(scattered_terms))


def test_token_exactly_at_the_cap_keeps_its_gradient(make_terms) -> None:
    terms = make_terms([-1.0], old=[-2.0], advantages=-1.0)
    ratio = torch.tensor(1.0).exp().item()
    DualClip(ratio_cap=ratio)(terms).sum().backward()
    assert terms.logprobs.grad.item() == pytest.approx(-ratio)
