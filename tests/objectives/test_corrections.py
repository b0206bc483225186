import math
import pickle

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from steadyrl.base.errors import UserError
from steadyrl.objectives import (
    DPPO,
    GRPO,
    GSPO,
    NLL,
    Masking,
    MiniRL,
    MismatchLevel,
    NoCorrection,
    Objective,
    ReferenceKL,
    Reinforce,
    TokenTerms,
    Truncation,
)
from steadyrl.objectives.corrections import Correction

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
    got = Truncation(level=level, cap=5.0).weights(worked)
    assert got[0].tolist() == pytest.approx(weights)


@pytest.mark.parametrize(
    ("level", "low", "high", "weights"),
    [
        (TOKEN, 0.3, 8.0, [4.0, 0.0, 0.0, 0.0]),
        (TOKEN, 0.0, math.inf, [4.0, 9.0, 0.0, 0.25]),
        (PRODUCT, 0.0, 8.9, [0.0, 0.0, 0.0, 0.0]),
        (PRODUCT, 0.0, 9.1, [9.0, 9.0, 0.0, 9.0]),
        (GEOMETRIC_MEAN, 0.0, 2.1, [9 ** (1 / 3), 9 ** (1 / 3), 0.0, 9 ** (1 / 3)]),
        (GEOMETRIC_MEAN, 0.0, 2.0, [0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_masking_of_a_worked_example(
    worked: TokenTerms, level: MismatchLevel, low: float, high: float, weights: list[float]
) -> None:
    got = Masking(level=level, low=low, high=high).weights(worked)
    assert got[0].tolist() == pytest.approx(weights)


@pytest.mark.parametrize(
    ("level", "low", "weight"),
    [
        (PRODUCT, 0.1, 1 / 9),
        (PRODUCT, 0.12, 0.0),
        (GEOMETRIC_MEAN, 0.48, 9 ** (-1 / 3)),
        (GEOMETRIC_MEAN, 0.49, 0.0),
    ],
)
def test_responses_are_masked_below_a_bound(
    make_terms, level: MismatchLevel, low: float, weight: float
) -> None:
    # Mismatches 1/4, 1/9 and 4: product 1/9, geometric mean 9^(-1/3) = 0.481.
    terms = make_terms([-1.0] * 3, rollout=-1.0 - torch.tensor([1 / 4, 1 / 9, 4.0]).log())
    got = Masking(level=level, low=low).weights(terms)
    assert got[0].tolist() == pytest.approx([weight] * 3)


def test_a_mismatch_at_a_bound_of_the_mask_is_kept(make_terms) -> None:
    terms = make_terms([-1.0, -1.0], rollout=[-1.3, -0.7])
    low, high = sorted(terms.log_mismatch.exp()[0].tolist())
    assert Masking(low=low, high=high).weights(terms)[0].tolist() == [high, low]


def test_defaults_are_the_published_bounds(make_terms) -> None:
    mismatch = torch.tensor([0.49, 0.51, 1.99, 2.01, 4.99, 5.01])
    terms = make_terms([-1.0] * 6, rollout=-1.0 - mismatch.log())
    kept = [0.0, 0.51, 1.99, 2.01, 4.99, 0.0]
    assert Masking().weights(terms)[0].tolist() == pytest.approx(kept)
    capped = [0.49, 0.51, 1.99, 2.0, 2.0, 2.0]
    assert Truncation().weights(terms)[0].tolist() == pytest.approx(capped)


@every_level
@pytest.mark.parametrize("kind", [Truncation, Masking])
def test_weights_are_one_where_engine_and_trainer_agree(
    make_terms, kind, level: MismatchLevel
) -> None:
    terms = make_terms([-1.0, -3.0], old=[-2.0, -2.5])
    assert kind(level=level).weights(terms)[0].tolist() == [1.0, 1.0]


@every_level
@pytest.mark.parametrize("kind", [Truncation, Masking])
@pytest.mark.parametrize("old", [-math.inf, -101.0, -1.0])
@pytest.mark.parametrize("rollout", [-math.inf, -101.0, -1.0])
def test_extreme_policies_give_finite_weights(
    make_terms, kind, level: MismatchLevel, old: float, rollout: float
) -> None:
    garbage = make_terms(
        [-1.0, -1.0, math.nan],
        old=[old, old, math.nan],
        rollout=[rollout, rollout, math.inf],
        mask=[True, True, False],
    )
    weights = kind(level=level).weights(garbage)
    assert weights.isfinite().all()
    assert weights[0, 2].item() == 0


@every_level
@pytest.mark.parametrize("kind", [Truncation, Masking])
def test_the_mismatch_of_a_response_is_that_of_all_its_rows(
    scattered_terms: TokenTerms, kind, level: MismatchLevel
) -> None:
    # Each of the 8 rows becomes 3, of the same response.
    names = ("logprobs", "old_logprobs", "rollout_logprobs", "advantages", "loss_mask")
    rows = TokenTerms(
        **{name: getattr(scattered_terms, name).reshape(24, 4) for name in names},
        response_ids=torch.arange(8).repeat_interleave(3),
    )
    weights = kind(level=level).weights
    torch.testing.assert_close(weights(rows), weights(scattered_terms).reshape(24, 4))


def test_correction_multiplies_every_token_and_its_gradient(scattered_terms: TokenTerms) -> None:
    terms = scattered_terms
    weights = Masking().weights(terms)
    value = Masking().apply_to(GRPO())(terms)
    assert not weights.requires_grad
    torch.testing.assert_close(value, GRPO()(terms) * weights)
    (grad,) = torch.autograd.grad(value.sum(), terms.logprobs)
    (plain,) = torch.autograd.grad(GRPO()(terms).sum(), terms.logprobs)
    torch.testing.assert_close(grad, plain * weights)
    assert (weights == 0).any()


def test_a_masked_token_is_zero_even_where_the_objective_is_infinite(make_terms) -> None:
    terms = make_terms([-math.inf, -1.0], old=[-9.0, -1.0], rollout=[-1.0, -1.0])
    value = Masking().apply_to(Reinforce())(terms)
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
    ratio = GRPO(clip_low=off, clip_high=off)
    value = Truncation(cap=off).apply_to(ratio)(scattered_terms)
    plain = MiniRL(clip_low=off, clip_high=off, weight_cap=off)(scattered_terms)
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
        objective = Truncation(level=level, cap=math.inf).apply_to(Reinforce())
        value = (chances * objective(terms)).sum()
        (estimates[level],) = torch.autograd.grad(value, logits, retain_graph=True)
    torch.testing.assert_close(estimates[PRODUCT], exact)
    for level in (TOKEN, GEOMETRIC_MEAN):
        assert (estimates[level] - exact).norm() > 0.01 * exact.norm()


@pytest.mark.parametrize("objective", [MiniRL(), DPPO(), Truncation().apply_to(GRPO())])
def test_a_mismatch_is_not_corrected_twice(objective: Objective) -> None:
    message = (
        rf"correction is 'truncation', but the objective '{objective.name}' already weighs "
        "tokens by .* Set correction 'none', or choose an objective .* 'grpo'"
    )
    with pytest.raises(UserError, match=message):
        Truncation().apply_to(objective)


def test_the_ablation_of_minirl_may_be_corrected() -> None:
    ablation = MiniRL(correct_mismatch=False)
    assert Masking().apply_to(ablation).corrects_mismatch
    assert NoCorrection().apply_to(ablation) is ablation
    assert not ablation.corrects_mismatch


def test_a_correction_of_responses_reads_them() -> None:
    def reads(correction: Correction) -> bool:
        return correction.apply_to(GRPO()).reads_responses

    assert not reads(NoCorrection())
    assert [reads(Truncation(level=level)) for level in MismatchLevel] == [False, True, True]
    assert [reads(Masking(level=level)) for level in MismatchLevel] == [False, True, True]
    assert Truncation().apply_to(GSPO()).reads_responses


def test_a_correction_keeps_the_other_flags_of_its_objective() -> None:
    held = ReferenceKL(coefficient=0.1).apply_to(GRPO())
    for objective in (GRPO(), NLL(), held):
        whole = Truncation().apply_to(objective)
        assert whole.proportional_to_advantage == objective.proportional_to_advantage
        assert whole.reads_reference == objective.reads_reference


def test_a_corrected_objective_travels_between_processes(scattered_terms: TokenTerms) -> None:
    objective = Truncation().apply_to(GRPO())
    again = pickle.loads(pickle.dumps(objective))
    assert again == objective
    assert torch.equal(again(scattered_terms), objective(scattered_terms))


@pytest.mark.parametrize(
    ("low", "high"), [(2.0, 2.0), (3.0, 1.0), (1.5, 5.0), (0.0, 0.9), (1.0, 1.0)]
)
def test_a_mask_of_agreement_is_refused(low: float, high: float) -> None:
    message = rf"low is {low} and high is {high}, but policies that agree have a .* Set low to"
    with pytest.raises(ValidationError, match=message):
        Masking(low=low, high=high)
