"""RSPO's router-shift weights, against equations 5 to 9 of arXiv:2510.23027."""

import math
from dataclasses import replace

import pytest
import torch

from steadyrl.objectives import GRPO, RSPO, TokenTerms


def shifted(terms: TokenTerms, shift: torch.Tensor) -> TokenTerms:
    return replace(terms, router_shift=shift)


def test_rspo_rescales_the_ratio_before_it_is_clipped(scattered_terms: TokenTerms) -> None:
    generator = torch.Generator().manual_seed(1)
    shift = torch.rand(scattered_terms.logprobs.shape, generator=generator)
    terms = shifted(scattered_terms, shift)
    value = RSPO(floor=0.6)(terms)
    value.sum().backward()
    floored = set()
    for i, t in terms.loss_mask.nonzero().tolist():
        advantage = terms.advantages[i, t].item()
        weight = max(math.exp(-shift[i, t].item()), 0.6)
        floored.add(weight == 0.6)
        ratio = weight * math.exp(terms.logprobs[i, t].item() - terms.old_logprobs[i, t].item())
        clipped = min(max(ratio, 0.8), 1.27)
        constant = clipped * advantage < ratio * advantage
        assert value[i, t].item() == pytest.approx(
            min(ratio, clipped) * advantage if advantage > 0 else max(ratio, clipped) * advantage,
            rel=1e-12,
        )
        slope = 0.0 if constant else ratio * advantage
        assert terms.logprobs.grad[i, t].item() == pytest.approx(slope, rel=1e-12)
    assert floored == {True, False}
    assert (value[~terms.loss_mask] == 0).all()


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_without_a_shift_or_with_a_floor_of_1_it_is_grpo(
    scattered_terms: TokenTerms, shift: float
) -> None:
    terms = shifted(scattered_terms, torch.full(scattered_terms.logprobs.shape, shift))
    objective = RSPO() if shift == 0 else RSPO(floor=1.0)

    assert torch.equal(objective(terms), GRPO()(scattered_terms))
    assert torch.equal(objective.masks(terms).clipped_high, GRPO().masks(terms).clipped_high)


def test_no_gradient_reaches_the_routers(make_terms) -> None:
    shift = torch.tensor([[0.1]], requires_grad=True)
    terms = shifted(make_terms([-1.0]), shift)
    value = RSPO()(terms)
    assert torch.autograd.grad(value.sum(), shift, allow_unused=True) == (None,)
    assert value.item() == pytest.approx(math.exp(-0.1))
