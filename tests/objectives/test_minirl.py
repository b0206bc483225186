import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steadyrl.objectives import GRPO, MiniRL, TokenTerms

LOGPROBS = st.lists(st.floats(-6, -0.01), min_size=5, max_size=5)
ADVANTAGES = st.lists(st.floats(-3, 3), min_size=5, max_size=5)


def gradient(value: torch.Tensor, terms: TokenTerms) -> torch.Tensor:
    return torch.autograd.grad(value.sum(), terms.logprobs)[0]


def test_minirl_is_equation_7(scattered_terms: TokenTerms) -> None:
    terms = scattered_terms
    value = MiniRL()(terms)
    grad = gradient(value, terms)
    branches = set()
    for i, t in terms.loss_mask.nonzero().tolist():
        logprob = terms.logprobs[i, t].item()
        advantage = terms.advantages[i, t].item()
        ratio = math.exp(logprob) / math.exp(terms.old_logprobs[i, t].item())
        weight = math.exp(logprob) / math.exp(terms.rollout_logprobs[i, t].item())
        if advantage > 0 and ratio > 1.27:
            branch, mask = "above", 0.0
        elif advantage < 0 and ratio < 0.8:
            branch, mask = "below", 0.0
        else:
            branch, mask = "capped" if weight > 5 else "kept", 1.0
        branches.add(branch)
        coefficient = mask * min(weight, 5.0) * advantage
        assert value[i, t].item() == pytest.approx(coefficient * logprob, rel=1e-12)
        assert grad[i, t].item() == pytest.approx(coefficient, rel=1e-12)
    assert branches == {"above", "below", "capped", "kept"}


@pytest.mark.parametrize(
    ("ratio", "mismatch", "advantage", "coefficient"),
    [
        (1.265, 1.0, 1.0, 1.265),
        (1.275, 1.0, 1.0, 0.0),
        (0.805, 1.0, -1.0, -0.805),
        (0.795, 1.0, -1.0, 0.0),
        (1.0, 4.99, 1.0, 4.99),
        (1.0, 5.01, 1.0, 5.0),
    ],
)
def test_defaults_are_the_settings_of_the_paper(
    make_terms, ratio: float, mismatch: float, advantage: float, coefficient: float
) -> None:
    # Clip bounds 0.2 and 0.27, weights truncated at 5.
    old = -1.0 - math.log(ratio)
    rollout = old - math.log(mismatch)
    terms = make_terms([-1.0], old=[old], rollout=[rollout], advantages=advantage)
    assert gradient(MiniRL()(terms), terms).item() == pytest.approx(coefficient)


def test_weight_is_behind_a_stop_gradient(make_terms) -> None:
    # Weight 2, log pi = -1. Without the stop-gradient it would be 2 + 2 * -1 = 0.
    terms = make_terms([-1.0], rollout=[-1.0 - math.log(2)])
    assert gradient(MiniRL()(terms), terms).item() == pytest.approx(2)


@pytest.mark.parametrize(("old", "advantage"), [(-1.2, 1.0), (-0.8, -1.0)])
def test_token_exactly_at_its_bound_keeps_its_gradient(
    make_terms, old: float, advantage: float
) -> None:
    ratio = torch.tensor(-1.0 - old).exp().item()
    name, bound = ("clip_high", ratio - 1) if advantage > 0 else ("clip_low", 1 - ratio)
    terms = make_terms([-1.0], old=[old], advantages=advantage)
    at_bound = MiniRL(**{name: bound})(terms)
    assert gradient(at_bound, terms).item() == pytest.approx(advantage * ratio)
    just_outside = MiniRL(**{name: bound - 1e-9})(terms)
    assert gradient(just_outside, terms).item() == 0


@pytest.mark.parametrize(("old", "advantage"), [(-3.0, -1.0), (-0.2, 1.0)])
def test_mask_lets_tokens_return(make_terms, old: float, advantage: float) -> None:
    # Too likely with A < 0, or too unlikely with A > 0: the update leads back to the old policy.
    terms = make_terms([-1.0], old=[old], advantages=advantage)
    expected = advantage * min(math.exp(-1.0 - old), 5.0)
    assert gradient(MiniRL()(terms), terms).item() == pytest.approx(expected)


def test_mask_reads_the_ratio_and_not_the_weight(make_terms) -> None:
    # The engine is far from the trainer (weight 4), but the update has not moved (ratio 1).
    terms = make_terms([-1.0], old=[-1.0], rollout=[-1.0 - math.log(4)])
    assert gradient(MiniRL()(terms), terms).item() == pytest.approx(4)


def test_infinite_bounds_and_cap_leave_the_plain_weight(scattered_terms: TokenTerms) -> None:
    terms = scattered_terms
    value = MiniRL(clip_low=math.inf, clip_high=math.inf, weight_cap=math.inf)(terms)
    weight = (terms.logprobs - terms.rollout_logprobs).detach().exp()
    expected = torch.where(terms.loss_mask, weight * terms.advantages, 0.0)
    torch.testing.assert_close(gradient(value, terms), expected)


def test_uncorrected_ablation_does_not_read_the_engine(make_terms) -> None:
    # On policy the weight is 1; after a move by log 1.1 it is the ratio 1.1.
    on_policy = make_terms([-1.0], rollout=[-2.0])
    value = MiniRL(correct_mismatch=False)(on_policy)
    assert gradient(value, on_policy).item() == 1
    moved = make_terms([-1.0], old=[-1.0 - math.log(1.1)], rollout=[-2.0])
    value = MiniRL(correct_mismatch=False)(moved)
    assert gradient(value, moved).item() == pytest.approx(1.1)


@settings(deadline=None, max_examples=60)
@given(current=LOGPROBS, old=LOGPROBS, rollout=LOGPROBS, advantages=ADVANTAGES)
def test_minirl_gradient_is_that_of_ppo_clip_times_the_mismatch(
    make_terms,
    current: list[float],
    old: list[float],
    rollout: list[float],
    advantages: list[float],
) -> None:
    # PPO-clip differentiates to M r A grad log pi, and r * mismatch = w. The identity therefore
    # needs a weight below its cap, and log quotients below their bound of 40: both hold here.
    terms = make_terms(current, old=old, rollout=rollout, advantages=advantages)
    surrogate = GRPO()(terms) * terms.log_mismatch.exp()
    corrected = gradient(MiniRL(weight_cap=math.inf)(terms), terms)
    torch.testing.assert_close(corrected, gradient(surrogate, terms))
    # Where the cap binds, the mismatch is cut down to cap / r.
    capped_mismatch = torch.minimum(terms.log_mismatch.exp(), 5 / terms.log_ratio.detach().exp())
    surrogate = GRPO()(terms) * capped_mismatch
    torch.testing.assert_close(gradient(MiniRL()(terms), terms), gradient(surrogate, terms))
