"""The gradient of the expected reward against those that stand in for it."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from tests.closeness import assert_close, tolerance
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

from steadyrl.analysis.first_order.gradient_error import FirstOrderError
from steadyrl.analysis.first_order.probe import (
    Estimator,
    all_responses,
    exact_errors,
    policy_terms,
    sampled_errors,
    sequence_level,
    token_level,
)
from steadyrl.base.errors import UserError
from steadyrl.objectives import GRPO, Aggregation, Reinforce, TokenTerms
from steadyrl.policies.loading import load_tokenizer
from steadyrl.policies.model_settings import SmallDense
from steadyrl.policies.policy import Policy
from steadyrl.records.token_batch import TokenBatch

VOCABULARY, LENGTH = 3, 4
PROMPT = torch.tensor([2, 0])
ESTIMATORS = {
    "token": Estimator(objective=token_level),
    "length_norm": Estimator(objective=token_level, aggregation=Aggregation.LENGTH_NORM),
    "uncorrected": Estimator(objective=Reinforce()),
    "grpo": Estimator(objective=GRPO(clip_low=math.inf, clip_high=math.inf)),
}


def noise(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def tabular_terms(eps: float, length: int = LENGTH) -> tuple[TokenTerms, Tensor]:
    """A table of logits with a row for each prefix, and an engine whose logits differ by eps."""
    prefixes = [VOCABULARY**t for t in range(length)]
    logits = noise(sum(prefixes), VOCABULARY, seed=1).requires_grad_()
    tokens = all_responses(PROMPT[:0], range(VOCABULARY), length).tokens
    places = torch.tensor([VOCABULARY**s for s in range(length)])
    rows = torch.stack(
        [sum(prefixes[:t]) + (tokens[:, :t] * places[:t]).sum(dim=1) for t in range(length)],
        dim=1,
    )

    def logprobs(table: Tensor) -> Tensor:
        return table.log_softmax(dim=-1)[rows, tokens]

    current = logprobs(logits)
    rewards = noise(len(tokens), 1, seed=2).expand(tokens.shape)
    terms = TokenTerms(
        logprobs=current,
        old_logprobs=current.detach(),
        rollout_logprobs=logprobs(logits + eps * noise(*logits.shape, seed=3)).detach(),
        advantages=rewards,
        loss_mask=torch.ones_like(tokens, dtype=torch.bool),
    )
    return terms, logits


def tabular_errors(eps: float, length: int = LENGTH) -> dict[str, FirstOrderError]:
    terms, logits = tabular_terms(eps, length)
    return exact_errors(terms, [logits], ESTIMATORS)


def test_reference_is_the_gradient_of_the_expected_reward() -> None:
    terms, logits = tabular_terms(0.7)
    rewards = terms.advantages[:, 0]
    expected = (terms.logprobs.sum(dim=1).exp() * rewards).sum()
    (exact,) = torch.autograd.grad(expected, logits, retain_graph=True)
    chances = terms.rollout_logprobs.sum(dim=1, keepdim=True).exp()
    (got,) = torch.autograd.grad((chances * sequence_level(terms)).sum(), logits)
    torch.testing.assert_close(got, exact, rtol=1e-12, atol=1e-14)


def test_errors_follow_their_definitions() -> None:
    terms, logits = tabular_terms(0.4)
    error = exact_errors(terms, [logits], ESTIMATORS)["uncorrected"]
    chances = terms.rollout_logprobs.sum(dim=1, keepdim=True).exp()

    def gradient(objective: Tensor) -> Tensor:
        value = (chances * objective).sum()
        return torch.autograd.grad(value, logits, retain_graph=True)[0].flatten()

    own, reference = gradient(Reinforce()(terms)), gradient(sequence_level(terms))
    cosine = torch.cosine_similarity(own, reference, dim=0).item()
    assert error.cosine.value == pytest.approx(cosine)
    assert error.norm_ratio.value == pytest.approx((own.norm() / reference.norm()).item())
    relative = ((own - reference).norm() / reference.norm()).item()
    assert error.relative_error.value == pytest.approx(relative)
    assert error.cosine.low == error.cosine.value == error.cosine.high


def test_without_a_discrepancy_only_the_length_norm_differs() -> None:
    errors = tabular_errors(0.0)
    for name in ("token", "uncorrected", "grpo"):
        assert errors[name].relative_error.value < 1e-14
        assert errors[name].cosine.value == pytest.approx(1, abs=1e-14)
        assert errors[name].norm_ratio.value == pytest.approx(1, abs=1e-14)
    # All responses have LENGTH tokens, so that the mean over them is the sum by a constant.
    assert errors["length_norm"].norm_ratio.value == pytest.approx(1 / LENGTH)
    assert errors["length_norm"].relative_error.value == pytest.approx(1 - 1 / LENGTH)
    assert errors["length_norm"].cosine.value == pytest.approx(1)


@pytest.mark.parametrize("eps", [0.005, 0.01, 0.02])
@pytest.mark.parametrize("name", ["token", "uncorrected"])
def test_error_is_linear_in_the_discrepancy(name: str, eps: float) -> None:
    error = tabular_errors(eps)[name].relative_error.value
    assert 0.1 * eps < error < 5 * eps
    doubled = tabular_errors(2 * eps)[name].relative_error.value
    assert doubled / error == pytest.approx(2, abs=0.1)


def test_token_weights_leave_a_smaller_error_than_none() -> None:
    errors = tabular_errors(0.2)
    token, none = errors["token"].relative_error, errors["uncorrected"].relative_error
    assert 0 < token.value < none.value


def test_a_response_of_one_token_has_no_error() -> None:
    # The product of one weight is that weight.
    assert tabular_errors(0.5, length=1)["token"].relative_error.value < 1e-14


def test_a_baseline_moves_neither_gradient() -> None:
    terms, logits = tabular_terms(0.3)
    shifted = replace(terms, advantages=terms.advantages - 5.0)
    plain = exact_errors(terms, [logits], ESTIMATORS)["token"]
    moved = exact_errors(shifted, [logits], ESTIMATORS)["token"]
    assert moved.relative_error.value == pytest.approx(plain.relative_error.value, rel=1e-9)


# A small transformer.


def small_policy(seed: int) -> Policy:
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        initializer_range=0.5,
        pad_token_id=None,
        eos_token_id=None,
        bos_token_id=None,
    )
    return Policy(Qwen3ForCausalLM(config).double(), load_tokenizer(SmallDense()))


def perturbed(policy: Policy, eps: float) -> Policy:
    """Another policy, whose weights differ by a factor near 1."""
    model = copy.deepcopy(policy.model)
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for weight in model.parameters():
            weight *= 1 + eps * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
    return Policy(model, policy.tokenizer)


def enumerated(engine: Policy, length: int) -> TokenBatch:
    """All responses with the engine's log-probabilities and random rewards."""
    batch = all_responses(PROMPT, range(VOCABULARY), length)
    with torch.no_grad():
        scores = engine.score(batch.tokens, batch.attention_mask, batch.loss_mask)
    rewards = noise(len(batch), 1, seed=4)
    return replace(
        batch,
        rollout_logprobs=scores.logprobs,
        advantages=(rewards - rewards.mean()) * batch.loss_mask,
    )


def drawn(batch: TokenBatch, count: int, seed: int) -> TokenBatch:
    """Responses as the engine samples them, each a group of its own."""
    assert batch.rollout_logprobs is not None
    chances = batch.rollout_logprobs.double().sum(dim=1).exp()
    generator = torch.Generator().manual_seed(seed)
    rows = chances.multinomial(count, replacement=True, generator=generator)
    each = torch.arange(count)
    return replace(batch.rows(rows), group_ids=each, response_ids=each)


def transformer_errors(eps: float) -> dict[str, FirstOrderError]:
    policy = small_policy(0)
    terms = policy_terms(policy, enumerated(perturbed(policy, eps), LENGTH))
    return exact_errors(terms, list(policy.model.parameters()), ESTIMATORS)


def test_all_responses_of_a_policy_are_all_there_is() -> None:
    batch = enumerated(small_policy(0), 3)
    assert batch.tokens.tolist()[:2] == [[2, 0, 0, 0, 0], [2, 0, 0, 0, 1]]
    assert len({tuple(row) for row in batch.tokens.tolist()}) == 27
    assert batch.loss_mask[0].tolist() == [False, False, True, True, True]
    assert batch.rollout_logprobs is not None
    assert_close(batch.rollout_logprobs.sum(dim=1).exp().sum().item(), 1.0, terms=27)


def test_error_of_a_transformer_vanishes_with_its_discrepancy_and_is_linear_in_it() -> None:
    # Log-probabilities are float32 whatever the model is.
    assert transformer_errors(0.0)["token"].relative_error.value < tolerance(1.0)
    error = transformer_errors(0.01)["token"].relative_error.value
    assert error > 1e-3
    doubled = transformer_errors(0.02)["token"].relative_error.value
    assert doubled / error == pytest.approx(2, abs=0.2)


def test_sampled_errors_agree_with_the_exact_ones_within_their_intervals() -> None:
    policy = small_policy(0)
    batch = enumerated(perturbed(policy, 0.15), LENGTH)
    terms = policy_terms(policy, batch)
    exact = exact_errors(terms, list(policy.model.parameters()), ESTIMATORS)
    sampled = sampled_errors(policy, drawn(batch, 6000, seed=0), ESTIMATORS)
    for name in ESTIMATORS:
        for kind in ("cosine", "norm_ratio", "relative_error"):
            truth, found = getattr(exact[name], kind).value, getattr(sampled[name], kind)
            assert found.low <= truth <= found.high, (name, kind, truth, found)
            assert found.low <= found.value <= found.high
    token = sampled["token"].relative_error
    assert token.low > 0  # tells the error from 0
    assert token.high - token.low < 0.5 * token.value


def test_a_sample_without_discrepancy_has_no_error_and_no_width() -> None:
    policy = small_policy(0)
    sample = drawn(enumerated(policy, 2), 300, seed=1)
    error = sampled_errors(policy, sample, {"token": ESTIMATORS["token"]}, blocks=6)["token"]
    assert error.relative_error.high < tolerance(1.0)
    assert error.cosine.low > 1 - tolerance(1.0)


def test_intervals_widen_with_confidence_and_narrow_with_the_sample() -> None:
    policy = small_policy(0)
    batch = enumerated(perturbed(policy, 0.15), 2)

    def width(count: int, confidence: float) -> float:
        errors = sampled_errors(
            policy,
            drawn(batch, count, seed=3),
            {"token": ESTIMATORS["token"]},
            blocks=16,
            confidence=confidence,
        )
        return errors["token"].norm_ratio.high - errors["token"].norm_ratio.low

    assert width(1000, 0.99) > width(1000, 0.9) > 0
    # Of the standard normal distribution: 2.576 and 1.645 standard deviations.
    assert width(1000, 0.99) / width(1000, 0.9) == pytest.approx(2.576 / 1.645, rel=0.02)
    assert width(4000, 0.9) < 0.75 * width(1000, 0.9)


def test_a_group_is_never_split_between_blocks() -> None:
    # Each response stands twice in its group, once with 30 more than its reward and once with 30
    # less: that cancels where both are in one block, and drowns the rewards where they are not.
    policy = small_policy(0)
    half = drawn(enumerated(perturbed(policy, 0.1), 2), 200, seed=5)
    both = replace(half.rows(torch.arange(200).repeat(2)), response_ids=torch.arange(400))
    shift = torch.tensor([30.0] * 200 + [-30.0] * 200, dtype=torch.float64).unsqueeze(1)
    shifted = replace(both, advantages=both.advantages + shift * both.loss_mask)
    token = {"token": ESTIMATORS["token"]}
    plain = sampled_errors(policy, half, token, blocks=8)["token"]
    assert torch.equal(shifted.group_ids[:200], shifted.group_ids[200:])
    grouped = sampled_errors(policy, shifted, token, blocks=8)["token"]
    assert grouped.norm_ratio.low == pytest.approx(plain.norm_ratio.low, rel=1e-3)
    assert grouped.norm_ratio.high == pytest.approx(plain.norm_ratio.high, rel=1e-3)
    with pytest.raises(UserError, match=r"'(J_seq|token)' cannot be told from 0, .* Sample more"):
        sampled_errors(policy, replace(shifted, group_ids=torch.arange(400)), token, blocks=8)


@pytest.mark.parametrize("blocks", [2, 9])
def test_blocks_that_give_no_interval_are_refused(blocks: int) -> None:
    policy = small_policy(0)
    sample = drawn(enumerated(policy, 2), 8, seed=1)
    with pytest.raises(UserError, match=rf"blocks is {blocks}, for 8 groups .* Set it from 3 to"):
        sampled_errors(policy, sample, ESTIMATORS, blocks=blocks)


def test_an_estimator_without_gradient_is_refused_by_name() -> None:
    terms, logits = tabular_terms(0.1)
    nothing = {"nothing": Estimator(objective=lambda given: 0.0 * given.logprobs)}
    with pytest.raises(UserError, match=r"The gradient of 'nothing' cannot be told from 0"):
        exact_errors(terms, [logits], nothing)


def test_a_batch_that_no_engine_sampled_is_refused() -> None:
    batch = all_responses(PROMPT, range(VOCABULARY), 2)
    with pytest.raises(UserError, match=r"has no rollout_logprobs. Give a batch that an engine"):
        policy_terms(small_policy(0), batch)


@pytest.mark.parametrize("aggregation", [Aggregation.TOKEN_MEAN, Aggregation.CONSTANT])
def test_other_aggregations_are_refused(aggregation: Aggregation) -> None:
    message = rf"got '{aggregation}'\. In place of 'constant' use 'token_sum'"
    with pytest.raises(UserError, match=message):
        Estimator(objective=token_level, aggregation=aggregation)


def test_old_log_probabilities_are_those_of_the_policy_unless_the_batch_has_its_own() -> None:
    policy = small_policy(0)
    batch = enumerated(policy, 2)
    terms = policy_terms(policy, batch)
    assert torch.equal(terms.old_logprobs, terms.logprobs.detach())
    other = torch.full(batch.tokens.shape, -0.5)
    stale = policy_terms(policy, replace(batch, old_logprobs=other))
    assert torch.equal(stale.old_logprobs, other)
    assert torch.equal(stale.logprobs.detach(), terms.logprobs.detach())
