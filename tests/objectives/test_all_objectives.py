"""What every objective promises, whichever it is."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from steadyrl.objectives import (
    CISPO,
    DPPO,
    GRPO,
    GSPO,
    NLL,
    Divergence,
    DualClip,
    GSPOToken,
    MiniRL,
    Reinforce,
    TokenTerms,
)

Objective = Callable[[TokenTerms], Tensor]
POLICY_GRADIENTS = {
    "reinforce": Reinforce(),
    "minirl": MiniRL(),
    "grpo": GRPO(),
    "cispo": CISPO(clip_low=0.2, clip_high=0.27),
    "dual_clip": DualClip(),
    "dppo_tv": DPPO(),
    "dppo_kl": DPPO(divergence=Divergence.KL, threshold=0.05),
}
OF_RESPONSES = {
    "gspo": GSPO(clip_low=0.2, clip_high=0.27),
    "gspo_token": GSPOToken(clip_low=0.2, clip_high=0.27),
}
OBJECTIVES = POLICY_GRADIENTS | OF_RESPONSES | {"nll": NLL()}
every_objective = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES.keys())
NEVER = -math.inf


def gradient(value: Tensor, terms: TokenTerms) -> Tensor:
    return torch.autograd.grad(value.sum(), terms.logprobs)[0]


@settings(deadline=None, max_examples=60)
@given(
    logprobs=st.lists(st.floats(-20, -1e-3), min_size=6, max_size=6),
    advantages=st.lists(st.floats(-3, 3), min_size=6, max_size=6),
    mask=st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_on_policy_gradient_is_reinforce(
    make_terms, logprobs: list[float], advantages: list[float], mask: list[bool]
) -> None:
    terms = make_terms(logprobs, advantages=advantages, mask=mask)
    expected = gradient(Reinforce()(terms), terms)
    for objective in POLICY_GRADIENTS.values():
        torch.testing.assert_close(gradient(objective(terms), terms), expected)


@settings(deadline=None, max_examples=60)
@given(
    logprobs=st.lists(st.floats(-20, -1e-3), min_size=6, max_size=6),
    advantage=st.floats(-3, 3),
    mask=st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_on_policy_gradient_of_a_response_is_reinforce(
    make_terms, logprobs: list[float], advantage: float, mask: list[bool]
) -> None:
    terms = make_terms(logprobs, advantages=advantage, mask=mask)
    expected = gradient(Reinforce()(terms), terms)
    for objective in OF_RESPONSES.values():
        torch.testing.assert_close(gradient(objective(terms), terms), expected)


@every_objective
def test_rows_of_one_response_are_as_good_as_one_row(
    scattered_terms: TokenTerms, objective: Objective
) -> None:
    # Each of the 8 rows becomes 3, of the same response.
    def cut(values: Tensor) -> Tensor:
        return values.reshape(24, 4)

    logprobs = cut(scattered_terms.logprobs)
    rows = TokenTerms(
        logprobs=logprobs,
        old_logprobs=cut(scattered_terms.old_logprobs),
        rollout_logprobs=cut(scattered_terms.rollout_logprobs),
        advantages=cut(scattered_terms.advantages),
        loss_mask=cut(scattered_terms.loss_mask),
        response_ids=torch.arange(8).repeat_interleave(3),
    )
    whole, value = objective(scattered_terms), objective(rows)
    torch.testing.assert_close(value, cut(whole))
    (of_rows,) = torch.autograd.grad(value.sum(), logprobs, retain_graph=True)
    torch.testing.assert_close(of_rows, cut(gradient(whole, scattered_terms)))
    alone = replace(scattered_terms, response_ids=torch.arange(8))
    assert torch.equal(objective(alone), whole)


@every_objective
def test_garbage_outside_the_loss_mask_is_never_read(make_terms, objective: Objective) -> None:
    garbage = [math.nan, math.inf, NEVER, -1.0]
    terms = make_terms(
        [*garbage, -1.0],
        old=[*reversed(garbage), -1.1],
        rollout=[NEVER, math.nan, math.inf, math.nan, -1.2],
        advantages=[math.inf, math.nan, NEVER, math.nan, 0.5],
        mask=[False, False, False, False, True],
    )
    clean = make_terms([-1.0], old=[-1.1], rollout=[-1.2], advantages=0.5)
    value, clean_value = objective(terms), objective(clean)
    assert value[0].tolist() == [0.0, 0.0, 0.0, 0.0, clean_value.item()]
    clean_gradient = gradient(clean_value, clean).item()
    assert gradient(value, terms)[0].tolist() == [0.0, 0.0, 0.0, 0.0, clean_gradient]
    assert clean_gradient != 0


@every_objective
def test_fully_masked_row_is_exactly_zero(make_terms, objective: Objective) -> None:
    terms = make_terms([-1.0, NEVER], old=[-9.0, -1.0], mask=[False, False])
    value = objective(terms)
    assert value.tolist() == [[0.0, 0.0]]
    assert gradient(value, terms).tolist() == [[0.0, 0.0]]


@every_objective
def test_nan_inside_the_loss_mask_is_not_hidden(make_terms, objective: Objective) -> None:
    terms = make_terms([math.nan, -1.0])
    spoils_its_response = objective in OF_RESPONSES.values()
    assert objective(terms).isnan().tolist() == [[True, spoils_its_response]]


@every_objective
@pytest.mark.parametrize("advantage", [1.0, -1.0])
@pytest.mark.parametrize("current", [NEVER, -101.0, -1.0])
@pytest.mark.parametrize("old", [NEVER, -101.0, -1.0])
@pytest.mark.parametrize("rollout", [NEVER, -101.0, -1.0])
def test_extreme_policies_give_no_nan_and_finite_gradients(
    make_terms, objective: Objective, advantage: float, current: float, old: float, rollout: float
) -> None:
    terms = make_terms([current], old=[old], rollout=[rollout], advantages=advantage)
    value = objective(terms)
    assert not value.isnan().any()
    assert gradient(value, terms).isfinite().all()


def test_impossible_token_has_no_value_where_its_weight_vanishes(make_terms) -> None:
    # pi_theta = 0 for a token the engine did sample: the weight is 0, and 0 log 0 = 0.
    terms = make_terms([NEVER], old=[-1.0])
    assert MiniRL()(terms).item() == 0
    assert GRPO()(terms).item() == 0
    assert DPPO()(terms).item() == 0
    assert GSPO()(terms).item() == 0
    assert Reinforce()(terms).item() == NEVER


def test_ratio_of_e_to_the_100(make_terms) -> None:
    rising = make_terms([-1.0], old=[-101.0])
    assert MiniRL()(rising).item() == 0
    assert GRPO()(rising).item() == pytest.approx(1.27)
    assert CISPO(clip_low=0.2, clip_high=0.27)(rising).item() == pytest.approx(-1.27)
    # With A < 0 neither bound applies: MiniRL's cap does, GRPO has only that of the quotient.
    falling = make_terms([-1.0], old=[-101.0], advantages=-1.0)
    assert MiniRL()(falling).item() == pytest.approx(5.0)
    assert GRPO()(falling).item() == pytest.approx(-math.exp(40))
