import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from steadyrl.objectives import DPPO, Divergence, MiniRL, TokenTerms
from steadyrl.objectives.dppo import binary_divergence

TV, KL = Divergence.TOTAL_VARIATION, Divergence.KL


def gradient(value: Tensor, terms: TokenTerms) -> Tensor:
    return torch.autograd.grad(value.sum(), terms.logprobs)[0]


def distance(kind: Divergence, mu: float, pi: float) -> float:
    if kind is TV:
        return abs(mu - pi)
    return mu * math.log(mu / pi) + (1 - mu) * math.log((1 - mu) / (1 - pi))


@pytest.mark.parametrize(("kind", "threshold"), [(TV, 0.1), (KL, 0.03)])
def test_dppo_is_equations_11_and_12(
    scattered_terms: TokenTerms, kind: Divergence, threshold: float
) -> None:
    terms = scattered_terms
    value = DPPO(divergence=kind, threshold=threshold, weight_cap=3.0)(terms)
    grad = gradient(value, terms)
    branches = set()
    for i, t in terms.loss_mask.nonzero().tolist():
        logprob = terms.logprobs[i, t].item()
        pi, mu = math.exp(min(logprob, -1e-9)), math.exp(terms.rollout_logprobs[i, t].item())
        if mu >= 1:  # scattered rollout probabilities may exceed 1; they are tested elsewhere
            continue
        advantage, weight = terms.advantages[i, t].item(), pi / mu
        leaving = (weight > 1) if advantage > 0 else (weight < 1)
        outside = distance(kind, mu, pi) > threshold
        branches.add((advantage > 0, leaving, outside))
        coefficient = 0.0 if leaving and outside else min(weight, 3.0) * advantage
        assert value[i, t].item() == pytest.approx(coefficient * logprob, rel=1e-12)
        assert grad[i, t].item() == pytest.approx(coefficient, rel=1e-12)
    assert len(branches) == 8


def test_binary_divergences_of_a_worked_example(make_terms) -> None:
    # mu = 1/2, pi = 1/4: |1/2 - 1/4|, and 1/2 log 2 + 1/2 log(2/3) = 1/2 log(4/3).
    terms = make_terms([math.log(1 / 4)], rollout=[math.log(1 / 2)])
    assert binary_divergence(terms, TV).item() == pytest.approx(1 / 4)
    assert binary_divergence(terms, KL).item() == pytest.approx(0.5 * math.log(4 / 3))


@pytest.mark.parametrize(
    ("mu", "pi", "kl"),
    [
        (0.0, 0.0, 0.0),
        (1.0, 1.0, 0.0),
        (1.0, 0.5, math.log(2)),
        (0.0, 0.5, math.log(2)),
        (0.5, 0.0, math.inf),
        (0.5, 1.0, math.inf),
    ],
)
def test_binary_kl_of_certain_and_impossible_tokens(
    make_terms, mu: float, pi: float, kl: float
) -> None:
    log = torch.tensor([pi, mu], dtype=torch.float64).log().tolist()
    terms = make_terms([log[0]], rollout=[log[1]])
    assert binary_divergence(terms, KL).item() == pytest.approx(kl, abs=1e-15)


@settings(deadline=None, max_examples=60)
@given(mu=st.floats(1e-6, 1 - 1e-6), pi=st.floats(1e-6, 1 - 1e-6))
def test_total_variation_is_bounded_by_kl_as_pinsker_says(make_terms, mu: float, pi: float) -> None:
    terms = make_terms([math.log(pi)], rollout=[math.log(mu)])
    kl = binary_divergence(terms, KL).item()
    assert binary_divergence(terms, TV).item() <= math.sqrt(max(kl, 0) / 2) + 1e-7


@pytest.mark.parametrize(
    ("pi", "mu", "advantage", "kept"),
    [
        (0.64, 0.5, 1.0, True),
        (0.66, 0.5, 1.0, False),
        (0.66, 0.5, -1.0, True),
        (0.36, 0.5, -1.0, True),
        (0.34, 0.5, -1.0, False),
        (0.34, 0.5, 1.0, True),
        # A ratio of 100 is let through where hardly any probability moves.
        (1e-3, 1e-5, 1.0, True),
    ],
)
def test_default_threshold_is_a_probability_of_fifteen_percent(
    make_terms, pi: float, mu: float, advantage: float, kept: bool
) -> None:
    terms = make_terms([math.log(pi)], rollout=[math.log(mu)], advantages=advantage)
    expected = min(pi / mu, 20.0) * advantage if kept else 0.0
    assert gradient(DPPO()(terms), terms).item() == pytest.approx(expected)


def test_trust_region_is_anchored_at_the_engine_and_not_at_the_old_policy(make_terms) -> None:
    moved = make_terms([math.log(0.5)], old=[math.log(0.1)], rollout=[math.log(0.45)])
    assert gradient(DPPO()(moved), moved).item() == pytest.approx(0.5 / 0.45)
    mismatched = make_terms([math.log(0.5)], old=[math.log(0.5)], rollout=[math.log(0.2)])
    assert gradient(DPPO()(mismatched), mismatched).item() == 0


@pytest.mark.parametrize("kind", Divergence)
def test_without_threshold_and_cap_it_is_minirl_without_clipping(
    scattered_terms: TokenTerms, kind: Divergence
) -> None:
    off = math.inf
    value = DPPO(divergence=kind, threshold=off, weight_cap=off)(scattered_terms)
    plain = MiniRL(clip_low=off, clip_high=off, weight_cap=off)(scattered_terms)
    torch.testing.assert_close(value, plain)
