"""Policies, engines and requests that the tests of engines share."""

from collections.abc import Callable, Sequence

import pytest
import torch
from transformers import (
    FalconConfig,
    FalconForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    MoshiConfig,
    MoshiForCausalLM,
    OpenAIGPTConfig,
    OpenAIGPTLMHeadModel,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from steadyrl.engines.engine_model import EngineModel
from steadyrl.engines.local import LocalEngine
from steadyrl.engines.protocol import Request, Sampling
from steadyrl.engines.reference import ReferenceEngine
from steadyrl.objectives import sets_differ
from steadyrl.policies.numerics import Numerics, WeightScaling
from steadyrl.policies.policy import Policy
from steadyrl.policies.tokenizers import character_tokenizer
from steadyrl.records.completion import Completion
from tests.closeness import assert_close
from tests.policies.families import SHARED, VOCABULARY, family_model, scaled_up

WINDOW = 4
ENDS = [1, 2, 3, 4, 5]

EVERY_CACHE = pytest.mark.parametrize(
    "model",
    [
        "qwen3",
        pytest.param("mixtral", marks=pytest.mark.slow),
        pytest.param("gemma2", marks=pytest.mark.slow),
        "gpt_oss",
    ],
)
"""Models whose layers keep all positions, a window of them, or both by turns."""


def qwen3() -> PreTrainedModel:
    return Qwen3ForCausalLM(Qwen3Config(**SHARED, head_dim=16, intermediate_size=16))


def qwen3_with_window() -> PreTrainedModel:
    """Full and sliding attention by layer."""
    config = Qwen3Config(
        **SHARED,
        head_dim=16,
        intermediate_size=16,
        use_sliding_window=True,
        sliding_window=WINDOW,
        max_window_layers=1,
    )
    return Qwen3ForCausalLM(config)


def mixtral_with_window() -> PreTrainedModel:
    """One window for every layer, with no list of layer types."""
    config = MixtralConfig(
        **SHARED,
        head_dim=16,
        num_local_experts=4,
        num_experts_per_tok=2,
        intermediate_size=16,
        sliding_window=WINDOW,
    )
    return MixtralForCausalLM(config)


def gemma2() -> PreTrainedModel:
    """Logits go through a soft cap after the head."""
    config = Gemma2Config(
        **SHARED,
        head_dim=16,
        intermediate_size=16,
        sliding_window=WINDOW,
        final_logit_softcapping=3.0,
    )
    return Gemma2ForCausalLM(config)


def gpt2() -> PreTrainedModel:
    """Learned positions."""
    config = GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=2, n_positions=64, eos_token_id=1
    )
    return GPT2LMHeadModel(config)


def gpt_neo() -> PreTrainedModel:
    """Every second layer's window counts columns."""
    config = GPTNeoConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        attention_types=[[["global", "local"], 1]],
        window_size=WINDOW,
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=1,
    )
    return GPTNeoForCausalLM(config)


def moshi() -> PreTrainedModel:
    """Every layer's window counts columns, which nothing in its configuration says."""
    config = MoshiConfig(
        **SHARED,
        head_dim=16,
        ffn_dim=32,
        sliding_window=WINDOW,
        audio_encoder_config={"model_type": "mimi"},
    )
    return MoshiForCausalLM(config)


def openai_gpt() -> PreTrainedModel:
    """Keeps no keys and values, though its layers have no type that says so."""
    config = OpenAIGPTConfig(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=2, n_positions=64, eos_token_id=1
    )
    return OpenAIGPTLMHeadModel(config)


def falcon_with_alibi() -> PreTrainedModel:
    """Distances of attention are taken from the mask."""
    config = FalconConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        alibi=True,
        bos_token_id=None,
        eos_token_id=1,
    )
    return FalconForCausalLM(config)


OTHER_MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "qwen3": qwen3,
    "qwen3_with_window": qwen3_with_window,
    "mixtral_with_window": mixtral_with_window,
    "gemma2": gemma2,
    "gpt2": gpt2,
}
"""Dense models, and a Mixture-of-Experts model whose routing is not recorded."""


def policy_of(name: str) -> Policy:
    """A policy far from uniform, whose answers end early about as often as they spend 8 tokens."""
    known = name not in OTHER_MODELS
    model = family_model(name) if known else scaled_up(OTHER_MODELS[name])
    model.generation_config.eos_token_id = ENDS
    return Policy(model, character_tokenizer(), hook_routing=known)


def engine_model(
    policy: Policy,
    numerics: Numerics = Numerics.FLOAT32,
    weight_scaling: WeightScaling = WeightScaling.CHANNEL,
) -> EngineModel:
    return EngineModel(
        policy,
        numerics=numerics,
        weight_scaling=weight_scaling,
        record_routing=policy.hook is not None,
    )


def local_engine(
    policy: Policy, *, numerics: Numerics = Numerics.FLOAT32, max_running: int = 64
) -> LocalEngine:
    return LocalEngine(engine_model(policy, numerics), max_running=max_running)


def reference_engine(policy: Policy, *, numerics: Numerics = Numerics.FLOAT32) -> ReferenceEngine:
    return ReferenceEngine(engine_model(policy, numerics))


def some_requests(lengths: Sequence[int] = (2, 9, 1), *, num_completions: int = 3) -> list[Request]:
    """Prompts of these lengths, without end tokens, each under its own seed."""
    generator = torch.Generator().manual_seed(11)
    return [
        Request(
            prompt_ids=torch.randint(6, VOCABULARY, (length,), generator=generator),
            num_completions=num_completions,
            seed=number,
            sampling=Sampling(),
        )
        for number, length in enumerate(lengths)
    ]


def flat(completions: Sequence[Sequence[Completion]]) -> list[Completion]:
    return [completion for group in completions for completion in group]


def assert_same_answers(
    ours: Sequence[Sequence[Completion]], theirs: Sequence[Sequence[Completion]]
) -> None:
    """The same tokens, reasons and expert sets; log-probabilities up to rounding."""
    assert [len(group) for group in ours] == [len(group) for group in theirs]
    for one, other in zip(flat(ours), flat(theirs), strict=True):
        assert one.prompt_ids.tolist() == other.prompt_ids.tolist()
        assert one.token_ids.tolist() == other.token_ids.tolist()
        assert one.finish_reason == other.finish_reason
        assert one.policy_version == other.policy_version
        assert_close(one.logprobs, other.logprobs)
        assert (one.support is None) == (other.support is None)
        if one.support is not None and other.support is not None:
            assert one.support.counts.tolist() == other.support.counts.tolist()
            assert one.support.ids.tolist() == other.support.ids.tolist()
        assert (one.routing is None) == (other.routing is None)
        if one.routing is not None and other.routing is not None:
            assert torch.equal(one.routing.known, other.routing.known)
            chosen = (routing.at(routing.known) for routing in (one.routing, other.routing))
            assert not sets_differ(*chosen).any()
            assert torch.equal(one.routing.fed_tokens, other.routing.fed_tokens)
