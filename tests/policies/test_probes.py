"""What probes find out on small copies, whatever the size and the arithmetic of the model."""

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from transformers import (
    BertConfig,
    BertLMHeadModel,
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    DogeConfig,
    DogeForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3NextConfig,
    Qwen3NextForCausalLM,
)

from steadyrl.base.errors import UserError
from steadyrl.policies.output_head import OutputHead
from steadyrl.policies.policy import Policy
from steadyrl.policies.probes import agree, causality_unsupported_reason, unsupported_reason
from steadyrl.policies.small_copy import Architecture
from steadyrl.policies.tokenizers import character_tokenizer
from tests.engines.builders import OTHER_MODELS
from tests.policies.families import FAMILIES, VOCABULARY

SIZES = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2}
EXPERTS = {"num_experts": 16, "num_experts_per_tok": 2}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 2}


def bert(*, is_decoder: bool) -> PreTrainedModel:
    config = BertConfig(**SIZES, num_attention_heads=2, intermediate_size=16, is_decoder=is_decoder)
    return BertLMHeadModel(config).eval()


def doge_with_experts() -> PreTrainedModel:
    """Its router folds the keys of all tokens into two halves, so that one sees another's."""
    config = DogeConfig(**SIZES, **HEADS, intermediate_size=16, is_moe=True, **EXPERTS)
    return DogeForCausalLM(config).eval()


class CenteredRows(Qwen3ForCausalLM):
    """Subtracts from each state the mean over the rows of its batch."""

    def __init__(self, config: Qwen3Config) -> None:
        super().__init__(config)
        self.model.layers[0].mlp.register_forward_hook(lambda _m, _a, out: out - out.mean(dim=0))


def centered_rows() -> PreTrainedModel:
    config = Qwen3Config(**SIZES, **HEADS, head_dim=8, intermediate_size=16)
    return CenteredRows(config).eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: bert(is_decoder=False), "BertLMHeadModel is not .* tokens after it.* is_decoder"),
        (doge_with_experts, "DogeForCausalLM is not a causal language model"),
        (centered_rows, "CenteredRows is not a causal language model.* other rows of its batch"),
    ],
)
def test_a_model_that_leaks_is_refused_in_any_arithmetic(build, reason, dtype) -> None:
    with pytest.raises(UserError, match=reason):
        Policy(build().to(dtype), character_tokenizer(), hook_routing=False)


@pytest.mark.parametrize("name", [*FAMILIES, *OTHER_MODELS])
def test_causal_models_do_not_leak(name: str) -> None:
    model = (FAMILIES | OTHER_MODELS)[name]().eval()
    assert unsupported_reason(causality_unsupported_reason, model) is None


def test_a_decoder_of_a_bidirectional_family_is_causal() -> None:
    assert unsupported_reason(causality_unsupported_reason, bert(is_decoder=True)) is None


def test_a_cap_that_bfloat16_hides_is_found() -> None:
    # 32 tanh(x / 32) is about x - x^3 / 3072, which rounds to x where it is small.
    config = Gemma2Config(**SIZES, **HEADS, head_dim=8, intermediate_size=16)
    config.final_logit_softcapping = 32.0
    model = Gemma2ForCausalLM(config).eval().bfloat16()
    tokens = torch.arange(2)[None]
    with torch.no_grad():
        states = model.base_model(input_ids=tokens).last_hidden_state
        assert torch.equal(model.lm_head(states), model(input_ids=tokens).logits)
    assert not OutputHead(model).is_plain


def large(family: type[PreTrainedModel], config: object) -> PreTrainedModel:
    with torch.device("meta"):
        return family(config)


@pytest.mark.parametrize(
    ("family", "config", "depth"),
    [
        (LlamaForCausalLM, LlamaConfig(num_hidden_layers=80, eos_token_id=[31000, 3]), 2),
        (DeepseekV3ForCausalLM, DeepseekV3Config(num_hidden_layers=12), 4),  # three dense layers
        (Qwen3NextForCausalLM, Qwen3NextConfig(num_hidden_layers=12), 4),  # the fourth has keys
    ],
)
def test_a_copy_is_small_and_has_every_kind_of_layer(family, config, depth) -> None:
    model = large(family, config)
    copy = Architecture.of(model).small_copy()
    assert copy is not None
    assert copy.dtype == torch.float32
    assert copy.config.num_hidden_layers == depth
    kinds = [{type(part) for part in each.model.layers.modules()} for each in (model, copy)]
    assert kinds[0] == kinds[1]
    size, whole = (sum(w.numel() for w in each.parameters()) for each in (copy, model))
    assert size < whole / 100


def test_windows_of_a_copy_are_shorter_than_its_probes() -> None:
    config = Gemma2Config(**SIZES, **HEADS, head_dim=8, sliding_window=4096)
    copy = Architecture.of(large(Gemma2ForCausalLM, config)).small_copy()
    assert copy is not None
    assert copy.config.sliding_window == 4


class OneSize(Qwen3ForCausalLM):
    """Has no other size than its own."""

    def __init__(self, config: Qwen3Config) -> None:
        if config.num_hidden_layers != 3:
            raise ValueError("of another size")
        super().__init__(config)


def test_a_family_that_cannot_be_made_small_is_copied_as_it_is_in_float32() -> None:
    config = Qwen3Config(
        **SIZES | HEADS | {"num_hidden_layers": 3}, head_dim=8, intermediate_size=16
    )
    model = OneSize(config).eval().bfloat16()
    assert Architecture.of(model).small_copy() is None
    weight = model.lm_head.weight
    copied = [unsupported_reason(lambda copy: str(copy.lm_head.weight.dtype), model)]
    copied += [
        unsupported_reason(
            lambda copy: str(torch.equal(copy.lm_head.weight, weight.float())), model
        )
    ]
    assert copied == ["torch.float32", "True"]


@pytest.mark.parametrize(
    "targets", [{"target_modules": ["q_proj"]}, {"target_parameters": ["experts.down_proj"]}]
)
def test_a_model_with_an_adapter_is_probed_without_it(
    targets: dict[str, list[str]], moe_policy: Policy
) -> None:
    bare = unsupported_reason(repr, moe_policy.model)
    inject_adapter_in_model(LoraConfig(r=2, **targets), moe_policy.model)

    assert unsupported_reason(repr, moe_policy.model) == bare


def test_agreement_is_by_the_scale_of_the_values() -> None:
    values = torch.tensor([1e4, 1e-3])
    assert agree(values + torch.tensor([1.0, 1.0]), values)
    assert not agree(values + torch.tensor([0.0, 10.0]), values)
