import math

import pytest
import torch
from torch import Tensor

from steadyrl.objectives import (
    MismatchLevel,
    TokenTerms,
    corrected,
    grpo,
    masked_mismatch,
    minirl,
    reinforce,
    truncated_mismatch,
)

TOKEN, PRODUCT = MismatchLevel.TOKEN, MismatchLevel.SEQUENCE_PRODUCT
GEOMETRIC_MEAN = MismatchLevel.SEQUENCE_GEOMETRIC_MEAN
every_level = pytest.mark.parametrize("level", MismatchLevel)


@pytest.fixture
def worked(make_terms) -> TokenTerms:
    """Mismatches 4 and 9, a masked token, and 1/4: product 9, geometric mean 9^(1/3)."""
    mismatch = torch.tensor([4.0, 9.0, 100.0, 0.25])
    mask = [True, True, False, True]
    return make_terms([-1.0] * 4, rollout=-1.0 - mismatch.log(), mask=mask)


@pytest.mark.parametrize(
    ("level", "weights"),
    [
        (TOKEN, [4.0, 5.0, 0.0, 0.25]),
        (PRODUCT, [5.0, 5.0, 0.0, 5.0]),
        (GEOMETRIC_MEAN, [9 ** (1 / 3), 9 ** (1 / 3), 0.0, 9 ** (1 / 3)]),
    ],
)
def test_truncation_of_a_worked_example(
    worked: TokenTerms, level: MismatchLevel, weights: list[float]
) -> None:
    got = truncated_mismatch(worked, level=level, cap=5.0)
    assert got[0].tolist() == pytest.approx(weights)


@pytest.mark.parametrize(
    ("level", "low", "high", "weights"),
    [
        (TOKEN, 0.3, 8.0, [4.0, 0.0, 0.0, 0.0]),
        (TOKEN, 0.0, math.inf, [4.0, 9.0, 0.0, 0.25]),
        (PRODUCT, 0.0, 8.9, [0.0, 0.0, 0.0, 0.0]),
        (PRODUCT, 0.0, 9.1, [9.0, 9.0, 0.0, 9.0]),
        (GEOMETRIC_MEAN, 2.0, 2.1, [9 ** (1 / 3), 9 ** (1 / 3), 0.0, 9 ** (1 / 3)]),
        (GEOMETRIC_MEAN, 2.1, 3.0, [0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_masking_of_a_worked_example(
    worked: TokenTerms, level: MismatchLevel, low: float, high: float, weights: list[float]
) -> None:
    got = masked_mismatch(worked, level=level, low=low, high=high)
    assert got[0].tolist() == pytest.approx(weights)


def test_a_mismatch_at_a_bound_of_the_mask_is_kept(make_terms) -> None:
    terms = make_terms([-1.0, -1.0], rollout=[-1.3, -0.7])
    low, high = sorted(terms.log_mismatch.exp()[0].tolist())
    assert masked_mismatch(terms, low=low, high=high)[0].tolist() == [high, low]


def test_defaults_are_the_published_bounds(make_terms) -> None:
    mismatch = torch.tensor([0.49, 0.51, 1.99, 2.01, 4.99, 5.01])
    terms = make_terms([-1.0] * 6, rollout=-1.0 - mismatch.log())
    kept = [0.0, 0.51, 1.99, 2.01, 4.99, 0.0]
    assert masked_mismatch(terms)[0].tolist() == pytest.approx(kept)
    capped = [0.49, 0.51, 1.99, 2.0, 2.0, 2.0]
    assert truncated_mismatch(terms)[0].tolist() == pytest.approx(capped)


@every_level
@pytest.mark.parametrize("weigh", [truncated_mismatch, masked_mismatch])
def test_weights_are_one_where_engine_and_trainer_agree(
    make_terms, weigh, level: MismatchLevel
) -> None:
    terms = make_terms([-1.0, -3.0], old=[-2.0, -2.5])
    assert weigh(terms, level=level)[0].tolist() == [1.0, 1.0]


@every_level
@pytest.mark.parametrize("weigh", [truncated_mismatch, masked_mismatch])
@pytest.mark.parametrize("old", [-math.inf, -101.0, -1.0])
@pytest.mark.parametrize("rollout", [-math.inf, -101.0, -1.0])
def test_extreme_policies_give_finite_weights(
    make_terms, weigh, level: MismatchLevel, old: float, rollout: float
) -> None:
    garbage = make_terms(
        [-1.0, -1.0, math.nan],
        old=[old, old, math.nan],
        rollout=[rollout, rollout, math.inf],
        mask=[True, True, False],
    )
    weights = weigh(garbage, level=level)
    assert weights.isfinite().all()
    assert weights[0, 2].item() == 0


@every_level
@pytest.mark.parametrize("weigh", [truncated_mismatch, masked_mismatch])
def test_the_mismatch_of_a_response_is_that_of_all_its_rows(
    scattered_terms: TokenTerms, weigh, level: MismatchLevel
) -> None:
    # Each of the 8 rows becomes 3, of the same response.
    names = ("logprobs", "old_logprobs", "rollout_logprobs", "advantages", "loss_mask")
    rows = TokenTerms(
        **{name: getattr(scattered_terms, name).reshape(24, 4) for name in names},
        response_ids=torch.arange(8).repeat_interleave(3),
    )
    expected = weigh(scattered_terms, level=level).reshape(24, 4)
    torch.testing.assert_close(weigh(rows, level=level), expected)


def test_correction_multiplies_every_token_and_its_gradient(scattered_terms: TokenTerms) -> None:
    terms = scattered_terms
    weights = masked_mismatch(terms)
    value = corrected(grpo(terms), weights)
    assert not weights.requires_grad
    torch.testing.assert_close(value, grpo(terms) * weights)
    (grad,) = torch.autograd.grad(value.sum(), terms.logprobs)
    (plain,) = torch.autograd.grad(grpo(terms).sum(), terms.logprobs)
    torch.testing.assert_close(grad, plain * weights)
    assert (weights == 0).any()


def test_a_masked_token_is_zero_even_where_the_objective_is_infinite(make_terms) -> None:
    terms = make_terms([-math.inf, -1.0], old=[-9.0, -1.0], rollout=[-1.0, -1.0])
    value = corrected(reinforce(terms), masked_mismatch(terms))
    (grad,) = torch.autograd.grad(value.sum(), terms.logprobs)
    assert value.tolist() == [[0.0, -1.0]]
    assert grad.tolist() == [[0.0, 1.0]]


def gradient(value: Tensor, terms: TokenTerms) -> Tensor:
    return torch.autograd.grad(value.sum(), terms.logprobs)[0]


def test_reinforce_by_ratio_with_untruncated_tokens_is_minirl_without_clipping(
    scattered_terms: TokenTerms,
) -> None:
    # ratio * mismatch = weight (arXiv:2512.01374, equation 5), one factor from each side.
    off = math.inf
    ratio = grpo(scattered_terms, clip_low=off, clip_high=off)
    value = corrected(ratio, truncated_mismatch(scattered_terms, cap=off))
    plain = minirl(scattered_terms, clip_low=off, clip_high=off, weight_cap=off)
    torch.testing.assert_close(gradient(value, scattered_terms), gradient(plain, scattered_terms))


def test_product_of_a_response_makes_reinforce_unbiased(make_terms) -> None:
    # All responses of two tokens from {a, b}: E_mu[prod m R grad log pi] = grad E_pi[R].
    logits = torch.tensor([[0.3, -0.4], [0.9, 0.1], [-0.5, 0.6]], requires_grad=True)
    engine = torch.tensor([[0.0, 0.2], [-0.3, 0.8], [0.4, 0.0]])
    rewards = torch.tensor([1.0, -2.0, 0.5, 3.0])
    first, second = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])

    def logprobs(table: Tensor) -> Tensor:
        rows = table.log_softmax(dim=1)
        return torch.stack([rows[0, first], rows[1 + first, second]], dim=1)

    current = logprobs(logits)
    (exact,) = torch.autograd.grad(
        (current.sum(1).exp() * rewards).sum(), logits, retain_graph=True
    )
    terms = TokenTerms(
        logprobs=current,
        old_logprobs=current.detach(),
        rollout_logprobs=logprobs(engine),
        advantages=rewards.unsqueeze(1).expand(4, 2),
        loss_mask=torch.ones(4, 2, dtype=torch.bool),
    )
    chances = logprobs(engine).sum(dim=1, keepdim=True).exp()
    estimates = {}
    for level in MismatchLevel:
        weights = truncated_mismatch(terms, level=level, cap=math.inf)
        value = (chances * corrected(reinforce(terms), weights)).sum()
        (estimates[level],) = torch.autograd.grad(value, logits, retain_graph=True)
    torch.testing.assert_close(estimates[PRODUCT], exact)
    for level in (TOKEN, GEOMETRIC_MEAN):
        assert (estimates[level] - exact).norm() > 0.01 * exact.norm()
