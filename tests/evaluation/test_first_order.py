"""The gradient of the expected reward against those that stand in for it."""

import copy
import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

from steadyrl.evaluation.first_order import (
    Estimator,
    FirstOrderError,
    all_responses,
    exact_errors,
    policy_terms,
    sampled_errors,
    sequence_level,
    token_level,
)
from steadyrl.objectives import Aggregation, TokenTerms, grpo, reinforce
from steadyrl.policies.loading import SmallDense, load_tokenizer
from steadyrl.policies.policy import Policy
from steadyrl.records.token_batch import TokenBatch

VOCABULARY, LENGTH = 3, 4
PROMPT = torch.tensor([2, 0])
ESTIMATORS = {
    "token": Estimator(objective=token_level),
    "length_norm": Estimator(objective=token_level, aggregation=Aggregation.LENGTH_NORM),
    "uncorrected": Estimator(objective=reinforce),
    "grpo": Estimator(objective=partial(grpo, clip_low=math.inf, clip_high=math.inf)),
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

    own, reference = gradient(reinforce(terms)), gradient(sequence_level(terms))
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
    return replace(batch.rows(rows), group_ids=torch.arange(count))


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
    assert batch.rollout_logprobs.sum(dim=1).exp().sum().item() == pytest.approx(1, abs=1e-6)


def test_error_of_a_transformer_vanishes_with_its_discrepancy_and_is_linear_in_it() -> None:
    # Log-probabilities are float32 whatever the model is.
    assert transformer_errors(0.0)["token"].relative_error.value < 1e-5
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
