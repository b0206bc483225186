import math

import pytest
import torch
from torch import Tensor

from steadyrl.objectives import GSPO, Aggregation, GSPOToken, TokenTerms, aggregate, token_weights


def gradient(value: Tensor, terms: TokenTerms) -> Tensor:
    return torch.autograd.grad(value.sum(), terms.logprobs)[0]


def responses_apart(make_terms, advantages: list[float]) -> TokenTerms:
    """Six responses of 1 to 4 tokens whose sequence ratios lie on all sides of 1."""
    generator = torch.Generator().manual_seed(3)
    mask = torch.arange(4) < torch.tensor([4, 3, 1, 4, 2, 3]).unsqueeze(1)
    old = -torch.rand(6, 4, generator=generator) - 0.5
    shift = torch.tensor([0.5, -0.5, 0.05, 0.5, -0.5, -0.02]).unsqueeze(1)
    current = old + shift + 0.1 * torch.randn(6, 4, generator=generator)
    table = torch.tensor(advantages).unsqueeze(1).expand(6, 4)
    return make_terms(current, old=old, advantages=table, mask=mask)


def test_gspo_is_equation_5_with_the_ratio_of_equation_7(make_terms) -> None:
    terms = responses_apart(make_terms, [1.0, -2.0, 0.5, -1.0, 1.5, -1.0])
    weights = token_weights(terms.loss_mask, torch.zeros(6).long(), Aggregation.LENGTH_NORM)
    loss = aggregate(GSPO(clip_low=0.2, clip_high=0.3)(terms), weights)
    loss.backward()
    total, branches = 0.0, set()
    for i in range(6):
        kept = terms.loss_mask[i].nonzero().flatten().tolist()
        probability = math.exp(sum(terms.logprobs[i, t].item() for t in kept))
        old_probability = math.exp(sum(terms.old_logprobs[i, t].item() for t in kept))
        ratio = (probability / old_probability) ** (1 / len(kept))
        advantage = terms.advantages[i, 0].item()
        clipped = min(max(ratio, 0.8), 1.3)
        term = min(ratio * advantage, clipped * advantage)
        constant = clipped * advantage < ratio * advantage
        branches.add((constant, advantage > 0))
        total += term / 6
        # d s / d log pi_t = s / |y|, for each of its |y| tokens.
        slope = 0.0 if constant else ratio * advantage / len(kept)
        for t in range(4):
            expected = -slope / 6 if t in kept else 0.0
            assert terms.logprobs.grad[i, t].item() == pytest.approx(expected, rel=1e-12)
    assert -loss.item() == pytest.approx(total, rel=1e-12)
    assert branches == {(True, True), (True, False), (False, True), (False, False)}


@pytest.mark.parametrize("bounds", [{}, {"clip_low": 0.2, "clip_high": 0.3}])
def test_gspo_token_is_gspo_where_a_response_has_one_advantage(make_terms, bounds) -> None:
    terms = responses_apart(make_terms, [1.0, -2.0, 0.5, -1.0, 1.5, -1.0])
    torch.testing.assert_close(GSPOToken(**bounds)(terms), GSPO(**bounds)(terms))
    torch.testing.assert_close(
        gradient(GSPOToken(**bounds)(terms), terms), gradient(GSPO(**bounds)(terms), terms)
    )


def test_gspo_token_passes_the_sequence_ratio_to_each_token_apart(make_terms) -> None:
    # Ratios 4 and 1: sequence ratio 2. Token advantages 3 and -1.
    terms = make_terms([-1.0, -2.0], old=[-1.0 - math.log(4), -2.0], advantages=[3.0, -1.0])
    value = GSPOToken(clip_low=math.inf, clip_high=math.inf)(terms)
    assert value[0].tolist() == pytest.approx([6.0, -2.0])
    assert gradient(value, terms)[0].tolist() == pytest.approx([6.0, -2.0])
    # In GSPO both tokens carry both: (6 - 2) / 2.
    value = GSPO(clip_low=math.inf, clip_high=math.inf)(terms)
    assert gradient(value, terms)[0].tolist() == pytest.approx([2.0, 2.0])


@pytest.mark.parametrize("objective", [GSPO(), GSPOToken()])
@pytest.mark.parametrize(
    ("ratio", "advantage", "kept"),
    [
        (1 + 3.9e-4, 1.0, True),
        (1 + 4.1e-4, 1.0, False),
        (1 - 2.9e-4, -1.0, True),
        (1 - 3.1e-4, -1.0, False),
        (1 + 1.0, -1.0, True),
        (1 - 0.5, 1.0, True),
    ],
)
def test_default_bounds_are_those_of_the_paper(
    make_terms, objective, ratio: float, advantage: float, kept: bool
) -> None:
    terms = make_terms([-1.0, -2.0], old=[-1.0, -2.0 - 2 * math.log(ratio)], advantages=advantage)
    # Both tokens have one advantage: the gradient of the ratio is the same for either objective.
    expected = pytest.approx(2 * [ratio * advantage]) if kept else [0.0, 0.0]
    assert gradient(objective(terms), terms)[0].tolist() == expected


def test_length_of_a_response_does_not_move_its_ratio(make_terms) -> None:
    short = make_terms([-1.0], old=[-1.1])
    long = make_terms([-1.0] * 7, old=[-1.1] * 7)
    off = {"clip_low": math.inf, "clip_high": math.inf}
    assert GSPO(**off)(long)[0].tolist() == pytest.approx(7 * [GSPO(**off)(short).item()])
    assert GSPO(**off)(short).item() == pytest.approx(math.exp(0.1))
