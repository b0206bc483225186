"""Scoring of given tokens, against the definition over full logits."""

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    JetMoeConfig,
    JetMoeForCausalLM,
    PreTrainedModel,
)

from steadyrl.base.errors import UserError
from steadyrl.policies.policy import Policy
from steadyrl.policies.tokenizers import character_tokenizer
from tests.closeness import assert_close
from tests.engines.builders import OTHER_MODELS, gemma2
from tests.policies.families import SHARED, VOCABULARY, scaled_up

BATCH, LENGTH = 3, 7


def granite() -> PreTrainedModel:
    """Logits are divided after the head."""
    return GraniteForCausalLM(GraniteConfig(**SHARED, intermediate_size=16, logits_scaling=4.0))


def cohere() -> PreTrainedModel:
    """Logits are multiplied after the head."""
    return CohereForCausalLM(CohereConfig(**SHARED, intermediate_size=16, logit_scale=0.25))


NOT_PLAIN = {"gemma2": gemma2, "granite": granite, "cohere": cohere}
MODELS = {"qwen3": OTHER_MODELS["qwen3"], "gpt2": OTHER_MODELS["gpt2"], **NOT_PLAIN}


def policy_of(name: str) -> Policy:
    return Policy(scaled_up(MODELS[name]), character_tokenizer())


def some_tokens() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(2, VOCABULARY, (BATCH, LENGTH), generator=generator)


def definition(policy: Policy, tokens: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """log pi(token t | tokens before t) and the entropy of pi(. | tokens before t), for t >= 1."""
    logits = policy.model(input_ids=tokens, use_cache=False).logits.double() / temperature
    distribution = logits[:, :-1].log_softmax(dim=-1)
    logprobs = distribution.gather(-1, tokens[:, 1:, None]).squeeze(-1)
    entropy = -(distribution.exp() * distribution).sum(dim=-1)
    return logprobs, entropy


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_scores_are_the_log_softmax_of_full_logits(name: str, temperature: float) -> None:
    policy, tokens = policy_of(name), some_tokens()
    everything = torch.ones_like(tokens, dtype=torch.bool)
    with torch.no_grad():
        scores = policy.score(tokens, everything, everything, temperature=temperature)
        logprobs, entropy = definition(policy, tokens, temperature)
    assert_close(scores.logprobs[:, 1:], logprobs)
    assert_close(scores.entropy[:, 1:], entropy)
    assert not scores.logprobs[:, 0].any()
    assert not scores.entropy[:, 0].any()


@pytest.mark.parametrize("name", MODELS)
def test_gradient_is_that_of_full_logits(name: str) -> None:
    tokens = some_tokens()
    everything = torch.ones_like(tokens, dtype=torch.bool)
    credit = torch.linspace(-1, 2, BATCH * LENGTH).view(BATCH, LENGTH)
    ours, theirs = policy_of(name), policy_of(name)
    (ours.score(tokens, everything, everything).logprobs * credit).sum().backward()
    (definition(theirs, tokens, 1.0)[0] * credit[:, 1:]).sum().backward()
    pairs = zip(ours.model.named_parameters(), theirs.model.parameters(), strict=True)
    for (name_of_weight, one), other in pairs:
        assert one.grad is not None, name_of_weight
        assert_close(one.grad, other.grad)


@pytest.mark.parametrize("name", ["qwen3", "gemma2"])
def test_padding_changes_no_score(name: str) -> None:
    policy, tokens = policy_of(name), some_tokens()
    everything = torch.ones_like(tokens, dtype=torch.bool)
    alone = policy.score(tokens, everything, everything).logprobs
    mask = torch.arange(LENGTH) < torch.tensor([7, 5, 3])[:, None]
    scores = policy.score(torch.where(mask, tokens, 0), mask, mask).logprobs
    assert_close(scores[mask], alone[mask])
    assert not scores[~mask].any()


def test_padding_on_the_left_is_refused() -> None:
    policy, tokens = policy_of("qwen3"), some_tokens()
    mask = torch.arange(LENGTH) >= torch.tensor([0, 2, 4])[:, None]
    with pytest.raises(UserError, match=r"precedes tokens in rows \[1, 2\]\. Pad on the right"):
        policy.score(tokens, mask, mask)


def test_only_what_is_asked_is_answered() -> None:
    policy, tokens = policy_of("qwen3"), some_tokens()
    everything = torch.ones_like(tokens, dtype=torch.bool)
    asked = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(1)) < 0.4
    asked[:, 0] = True  # has nothing before it
    full = policy.score(tokens, everything, everything)
    part = policy.score(tokens, everything, asked)
    answered = asked & (torch.arange(LENGTH) > 0)
    for ours, theirs in ((part.logprobs, full.logprobs), (part.entropy, full.entropy)):
        assert_close(ours, torch.where(answered, theirs, 0))
    assert part.routing is None


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("name", NOT_PLAIN)
def test_logits_behind_a_cap_or_a_factor_exist_where_they_are_asked_for(
    name: str, share: bool
) -> None:
    policy, tokens = policy_of(name), some_tokens()
    tokens[:, :4] = tokens[0, :4]
    everything = torch.ones_like(tokens, dtype=torch.bool)
    asked = everything & (torch.arange(LENGTH) > 4)
    full = policy.score(tokens, everything, everything)
    given = []
    policy.model.lm_head.register_forward_hook(
        lambda _module, _args, logits: given.append(logits.shape[:-1].numel())
    )
    prefix_groups = torch.zeros(BATCH, dtype=torch.long) if share else None
    part = policy.score(tokens, everything, asked, prefix_groups=prefix_groups)
    assert_close(part.logprobs[asked], full.logprobs[asked])
    assert sum(given) == asked.sum() == BATCH * 2


def test_nothing_asked_is_answered_with_zeros_that_carry_gradient() -> None:
    policy, tokens = policy_of("qwen3"), some_tokens()
    everything = torch.ones_like(tokens, dtype=torch.bool)
    scores = policy.score(tokens, everything, ~everything)
    assert not scores.logprobs.any()
    scores.logprobs.sum().backward()
    gradients = [w.grad for w in policy.model.parameters() if w.grad is not None]
    assert all(not gradient.any() for gradient in gradients)


def test_entropy_carries_no_gradient() -> None:
    policy, tokens = policy_of("qwen3"), some_tokens()
    everything = torch.ones_like(tokens, dtype=torch.bool)
    scores = policy.score(tokens, everything, everything)
    assert scores.logprobs.requires_grad
    assert not scores.entropy.requires_grad


def test_uniform_logits_score_minus_log_of_the_vocabulary() -> None:
    # A head of zeros: every token has probability 1 / 48 at any temperature, entropy log 48.
    policy, tokens = policy_of("qwen3"), some_tokens()
    with torch.no_grad():
        policy.model.lm_head.weight.zero_()
    everything = torch.ones_like(tokens, dtype=torch.bool)
    scores = policy.score(tokens, everything, everything, temperature=0.3)
    expected = torch.full((BATCH, LENGTH - 1), float(VOCABULARY)).log()
    assert_close(scores.logprobs[:, 1:], -expected, terms=VOCABULARY)
    assert_close(scores.entropy[:, 1:], expected, terms=VOCABULARY)


def test_activation_checkpointing_changes_no_gradient_of_a_dense_model() -> None:
    tokens = some_tokens()
    everything = torch.ones_like(tokens, dtype=torch.bool)
    results = []
    for checkpointed in (False, True):
        policy = policy_of("qwen3")
        if checkpointed:
            policy.enable_activation_checkpointing()
        policy.score(tokens, everything, everything).logprobs.square().sum().backward()
        results.append([weight.grad for weight in policy.model.parameters()])
    for plain, recomputed in zip(*results, strict=True):
        assert_close(recomputed, plain)


def test_activation_checkpointing_recomputes_and_switches_no_dropout_on() -> None:
    policy = policy_of("gpt2")
    assert policy.model.config.resid_pdrop > 0
    policy.enable_activation_checkpointing()
    forwards = 0

    def count(*_: object) -> None:
        nonlocal forwards
        forwards += 1

    policy.model.transformer.h[0].mlp.register_forward_pre_hook(count)
    tokens = some_tokens()
    everything = torch.ones_like(tokens, dtype=torch.bool)
    first = policy.score(tokens, everything, everything).logprobs
    second = policy.score(tokens, everything, everything).logprobs
    assert torch.equal(first, second)
    assert forwards == 2
    first.sum().backward()
    assert forwards == 3


def test_activation_checkpointing_of_a_model_that_draws_is_refused() -> None:
    policy = policy_of("qwen3")
    policy.model.model.layers[0].register_forward_hook(
        lambda layer, _inputs, output: nn.functional.dropout(output, 0.5, layer.training)
    )
    with pytest.raises(
        UserError, match=r"Qwen3ForCausalLM is random under .* Set its dropout to 0"
    ):
        policy.enable_activation_checkpointing()


def test_activation_checkpointing_of_a_family_without_it_is_refused() -> None:
    config = JetMoeConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=1,
        num_key_value_heads=2,
        kv_channels=8,
        intermediate_size=16,
        num_local_experts=2,
        num_experts_per_tok=1,
        eos_token_id=1,
    )
    policy = Policy(JetMoeForCausalLM(config).eval(), character_tokenizer(), hook_routing=False)
    with pytest.raises(UserError, match=r"JetMoeForCausalLM does not support .* to false"):
        policy.enable_activation_checkpointing()


def test_routing_of_another_length_is_refused(moe_policy: Policy) -> None:
    tokens = some_tokens()
    everything = torch.ones_like(tokens, dtype=torch.bool)
    routing = moe_policy.score(tokens, everything, everything, record_routing=True).routing
    assert routing is not None
    shorter = routing.rows(torch.arange(BATCH), LENGTH - 1)
    with pytest.raises(RuntimeError, match=r"Routing of shape \(3, 6\) for tokens \(3, 7\)"):
        moe_policy.score(tokens, everything, everything, replay=shorter)


def test_end_tokens_are_those_of_tokenizer_and_model(dense_policy: Policy) -> None:
    dense_policy.model.generation_config.eos_token_id = [9, 12]
    assert dense_policy.end_token_ids == {dense_policy.tokenizer.eos_token_id, 9, 12}
