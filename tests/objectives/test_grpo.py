import math

import pytest
import torch

from steadyrl.objectives import GRPO, TokenTerms


def test_grpo_is_the_clipped_surrogate(scattered_terms: TokenTerms) -> None:
    terms = scattered_terms
    value = GRPO()(terms)
    value.sum().backward()
    branches = set()
    for i, t in terms.loss_mask.nonzero().tolist():
        advantage = terms.advantages[i, t].item()
        ratio = math.exp(terms.logprobs[i, t].item()) / math.exp(terms.old_logprobs[i, t].item())
        clipped = min(max(ratio, 0.8), 1.27)
        constant = clipped * advantage < ratio * advantage
        branches.add((constant, advantage > 0, ratio > 1))
        expected = min(ratio * advantage, clipped * advantage)
        assert value[i, t].item() == pytest.approx(expected, rel=1e-12)
        # d ratio / d log pi = ratio, and the clipped branch is constant.
        slope = 0.0 if constant else ratio * advantage
        assert terms.logprobs.grad[i, t].item() == pytest.approx(slope, rel=1e-12)
    clipped_above, clipped_below = (True, True, True), (True, False, False)
    returning_from_above, returning_from_below = (False, False, True), (False, True, False)
    assert branches >= {clipped_above, clipped_below, returning_from_above, returning_from_below}


@pytest.mark.parametrize(("old", "advantage"), [(-1.2, 1.0), (-0.8, -1.0)])
def test_token_exactly_at_its_bound_keeps_its_gradient(
    make_terms, old: float, advantage: float
) -> None:
    ratio = torch.tensor(-1.0 - old).exp().item()
    bound = {"clip_high": ratio - 1} if advantage > 0 else {"clip_low": 1 - ratio}
    terms = make_terms([-1.0], old=[old], advantages=advantage)
    GRPO(**bound)(terms).sum().backward()
    assert terms.logprobs.grad.item() == pytest.approx(advantage * ratio)


def test_infinite_bounds_leave_the_unclipped_surrogate(make_terms) -> None:
    terms = make_terms([-1.0, -4.0], old=[-4.0, -1.0], advantages=[2.0, -2.0])
    value = GRPO(clip_low=math.inf, clip_high=math.inf)(terms)
    assert value[0].tolist() == pytest.approx([2 * math.exp(3), -2 * math.exp(-3)])
