"""LoRA by peft: its gradient, its weights on their own and merged, and what it leaves alone."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from steadyrl.base.errors import UserError
from steadyrl.policies.loading import load_model, load_tokenizer
from steadyrl.policies.lora import Adapter, LoraSettings, base_of, merge_adapter, randomize
from steadyrl.policies.merged_weights import MergedWeights, base_weights
from steadyrl.policies.model_settings import SmallDense, SmallMoE
from steadyrl.policies.policy import Policy
from steadyrl.policies.tokenizers import character_tokenizer
from tests.closeness import assert_close
from tests.policies.families import FAMILIES, family_model

SIZES = {"layers": 2, "width": 32, "heads": 2, "kv_heads": 1, "head_dim": 16}
DENSE = SmallDense(**SIZES, mlp_width=32)
MOE = SmallMoE(**SIZES, experts=4, expert_width=16)
RANK, ALPHA = 4, 8.0
SCALE = ALPHA / RANK
TOKENS = torch.randint(6, 90, (3, 10), generator=torch.Generator().manual_seed(0))


def dense(dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    return load_model(DENSE, tokenizer=load_tokenizer(DENSE), seed=1, dtype=dtype)


def moe(dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    return load_model(MOE, tokenizer=load_tokenizer(MOE), seed=1, dtype=dtype)


def lora(**changes: object) -> LoraSettings:
    return LoraSettings(**{"rank": RANK, "alpha": ALPHA, **changes})


def adapted(model: PreTrainedModel, *, seed: int = 0, **settings: object) -> Adapter:
    """A random adapter in `model`."""
    adapter = Adapter(model, lora(**settings), seed=seed)
    randomize(model, share=0.3, seed=seed)
    return adapter


def loss_of(model: PreTrainedModel) -> Tensor:
    return (model(input_ids=TOKENS, use_cache=False).logits.log_softmax(-1)[..., 7]).sum()


def logits_of(model: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        return model(input_ids=TOKENS, use_cache=False).logits


def factors(adapter: Adapter, path: str) -> tuple[Tensor, Tensor]:
    """The trained A and B of a weight."""
    found = adapter.parameters()
    a, b = (found[f"base_model.model.{path}.lora_{side}.weight"] for side in "AB")
    return a, b


# The gradient.


@pytest.mark.parametrize("name", ["self_attn.q_proj", "self_attn.o_proj", "mlp.down_proj"])
def test_gradient_is_that_of_the_merged_weight_by_the_chain_rule(name: str) -> None:
    # W' = W + s B A, so that dL/dA = s B^T dL/dW' and dL/dB = s dL/dW' A^T.
    model, whole = dense(torch.float64), dense(torch.float64)
    adapter = adapted(model)
    model.double()
    whole.load_state_dict(dict(MergedWeights(model)))
    loss_of(model).backward()
    loss_of(whole).backward()

    path = f"model.layers.1.{name}"
    a, b = factors(adapter, path)
    gradient = whole.get_submodule(path).weight.grad
    assert_close(a.grad, SCALE * b.T @ gradient)
    assert_close(b.grad, SCALE * gradient @ a.T)
    assert float(b.grad.abs().max()) > 1e-3


def test_gradient_of_experts_is_that_of_each_merged_expert() -> None:
    model, whole = moe(torch.float64), moe(torch.float64)
    for each in (model, whole):
        each.set_experts_implementation("eager")  # the other ones have no float64
    adapter = adapted(model, experts=True)
    model.double()
    whole.load_state_dict(dict(MergedWeights(model)))
    loss_of(model).backward()
    loss_of(whole).backward()

    # peft keeps the factors of E experts side by side: A is [E r, in], B is [out, r E].
    experts = whole.model.layers[0].mlp.experts
    for name, nested in (("down_proj", ""), ("gate_up_proj", ".base_layer")):
        weight = getattr(experts, name)
        a, b = factors(adapter, f"model.layers.0.mlp.experts{nested}")
        if weight.shape[2] != a.shape[1]:  # the two wrappers may be nested the other way round
            a, b = factors(adapter, "model.layers.0.mlp.experts")
        by_a = a.grad.view(len(weight), RANK, -1)
        by_b = b.grad.view(-1, RANK, len(weight)).permute(2, 0, 1)
        ours = a.view(len(weight), RANK, -1), b.view(-1, RANK, len(weight)).permute(2, 0, 1)
        assert_close(by_a, SCALE * ours[1].mT @ weight.grad)
        assert_close(by_b, SCALE * weight.grad @ ours[0].mT)


def test_only_the_adapter_has_gradients() -> None:
    model = moe()
    adapter = adapted(model)
    loss_of(model).backward()

    trained = {id(weight) for weight in adapter.parameters().values()}
    with_gradient = {id(weight) for weight in model.parameters() if weight.grad is not None}
    assert trained == with_gradient
    assert all(weight.requires_grad == (id(weight) in trained) for weight in model.parameters())


def test_weights_are_float32_over_a_bfloat16_base() -> None:
    model = dense(torch.bfloat16)
    adapter = adapted(model)
    assert {weight.dtype for weight in adapter.parameters().values()} == {torch.float32}
    assert {weight.dtype for weight in base_weights(model).values()} == {torch.bfloat16}
    assert model.dtype == torch.bfloat16
    assert logits_of(model).dtype == torch.bfloat16
    merged = MergedWeights(model)
    assert merged["model.layers.0.mlp.up_proj.weight"].dtype == torch.float32
    assert merged["model.norm.weight"].dtype == torch.bfloat16


# What the model computes with it.


@pytest.mark.parametrize("build", [dense, moe])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_new_adapter_changes_nothing_and_a_random_one_does(
    build: Callable[..., PreTrainedModel], dtype: torch.dtype
) -> None:
    model, expected = build(dtype), logits_of(build(dtype))
    adapter = Adapter(model, lora(), seed=0)
    assert torch.equal(logits_of(model), expected)
    randomize(model, share=0.3, seed=0)
    assert float((logits_of(model) - expected).abs().max()) > 1e-2
    with adapter.using(None):
        assert torch.equal(logits_of(model), expected)


def test_a_second_adapter_computes_while_it_is_used() -> None:
    model = moe()
    adapter = adapted(model, experts=True)
    first = logits_of(model)
    adapter.add("reference")
    for name, weight in adapter.parameters("reference").items():
        weight.data.copy_(adapter.parameters()[name])
    randomize(model, share=0.3, seed=5)
    second = logits_of(model)
    loss = loss_of(model)
    with adapter.using("reference"):
        assert torch.equal(logits_of(model), first)
    assert torch.equal(logits_of(model), second)
    loss.backward()
    assert all(weight.grad is not None for weight in adapter.parameters().values())
    assert all(weight.grad is None for weight in adapter.parameters("reference").values())


def test_the_seed_determines_it_and_nothing_else_is_drawn() -> None:
    models = [dense() for _ in range(3)]
    state = torch.random.get_rng_state()
    one, same, other = (
        Adapter(model, lora(), seed=seed).parameters()
        for model, seed in zip(models, (3, 3, 4), strict=True)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    name = next(iter(one))
    assert torch.equal(one[name], same[name])
    assert not torch.equal(one[name], other[name])


def test_merged_weights_compute_the_same() -> None:
    for build, experts in ((dense, False), (moe, True)):
        model, whole = build(), build()
        adapted(model, experts=experts)
        merged = MergedWeights(model)
        assert merged.keys() == whole.state_dict().keys()
        assert base_weights(model).keys() == merged.keys()
        whole.load_state_dict(dict(merged))
        assert_close(logits_of(whole), logits_of(model))


def test_a_model_without_an_adapter_is_its_own_merged_model() -> None:
    model = dense()
    merged, state = MergedWeights(model), model.state_dict()
    assert list(merged) == list(state)
    assert all(merged[name].data_ptr() == weight.data_ptr() for name, weight in state.items())


# On disk.


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize(("build", "experts"), [(dense, False), (moe, False), (moe, True)])
def test_peft_loads_its_folder(
    build: Callable[..., PreTrainedModel], experts: bool, tmp_path: Path
) -> None:
    model = build()
    adapted(model, experts=experts).write(tmp_path)
    loaded = PeftModel.from_pretrained(build(), tmp_path)
    assert torch.equal(logits_of(loaded), logits_of(model))
    merged = merge_adapter(build(), tmp_path)
    assert type(merged) is type(model)
    assert_close(logits_of(merged), logits_of(model))


def test_reading_gives_the_same_bits(tmp_path: Path) -> None:
    model, other = dense(), dense()
    adapted(model).write(tmp_path)
    adapter = adapted(other, seed=9)
    read = adapter.read(tmp_path)
    assert torch.equal(logits_of(other), logits_of(model))
    assert read.keys() == adapter.parameters().keys()


def test_an_adapter_of_another_shape_is_not_read(tmp_path: Path) -> None:
    adapted(dense()).write(tmp_path)
    with pytest.raises(ValueError, match="shape"):
        adapted(dense(), rank=8).read(tmp_path)
    with pytest.raises(ValueError, match="Weight names differ"):
        adapted(dense(), targets="q_proj").read(tmp_path)
    with pytest.raises(ValueError, match=r"no adapter_model\.safetensors"):
        adapted(dense()).read(tmp_path / "nowhere")


def test_an_adapter_does_not_merge_into_another_model(tmp_path: Path) -> None:
    adapted(dense()).write(tmp_path)
    with pytest.raises(
        UserError, match=r"does not fit Qwen3MoeForCausalLM: .* Give the base model"
    ):
        merge_adapter(moe(), tmp_path)


def test_an_adapter_that_is_not_finite_is_not_merged(tmp_path: Path) -> None:
    adapter = adapted(dense())
    with torch.no_grad():
        next(iter(adapter.parameters().values()))[0, 0] = float("nan")
    adapter.write(tmp_path)
    with pytest.raises(UserError, match=r"makes .*weight non-finite\. Give an earlier one"):
        merge_adapter(dense(), tmp_path)


def test_a_folder_names_its_base(tmp_path: Path) -> None:
    adapter = adapted(dense())
    adapter.write(tmp_path)
    with pytest.raises(UserError, match=r"does not name its base model. Set base_model_name"):
        base_of(tmp_path)
    model = dense()
    model.name_or_path = "org/model"
    adapted(model).write(tmp_path)
    assert base_of(tmp_path).path == "org/model"


# Targets.


def test_names_choose_layers() -> None:
    adapter = Adapter(dense(), lora(targets=("q_proj", "mlp.up_proj")), seed=0)
    paths = {name.partition(".lora_")[0].rpartition("layers.")[2] for name in adapter.parameters()}
    assert paths == {f"{n}.{part}" for n in "01" for part in ("self_attn.q_proj", "mlp.up_proj")}


@pytest.mark.parametrize(
    ("build", "settings", "message"),
    [
        (dense, {"targets": "query"}, r"has no linear layer of that name. .* down_proj, gate_proj"),
        (dense, {"targets": "lm_head"}, r"lm_head is the output head"),
        (dense, {"experts": True}, r"Qwen3ForCausalLM has no experts with fused weights"),
        (moe, {"targets": "up_proj"}, r"has no linear layer of that name. .* k_proj, o_proj"),
    ],
)
def test_what_cannot_be_adapted_is_refused(
    build: Callable[..., PreTrainedModel], settings: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        Adapter(build(), lora(**settings), seed=0)


@pytest.mark.parametrize("targets", [[], ["q_proj", "q_proj"], ["all-linear", "q_proj"]])
def test_targets_are_distinct_names(targets: list[str]) -> None:
    with pytest.raises(ValidationError, match="or different names of linear layers"):
        lora(targets=targets)


def test_transposed_layers_are_adapted() -> None:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=96, n_positions=32, n_embd=16, n_layer=2, n_head=2)
    model, whole = GPT2LMHeadModel(config).eval(), GPT2LMHeadModel(config).eval()
    adapted(model)
    whole.load_state_dict(dict(MergedWeights(model)))
    assert_close(logits_of(whole), logits_of(model))


# Routing.


@pytest.mark.parametrize("family", FAMILIES)
def test_routers_of_every_family_are_replayed_and_stay_frozen(family: str) -> None:
    model = family_model(family)
    fused = any(w.dim() == 3 and ".experts." in name for name, w in model.named_parameters())
    policy = Policy(model, character_tokenizer())
    adapter = adapted(model, experts=fused)
    tokens = torch.randint(2, 40, (2, 9), generator=torch.Generator().manual_seed(1))
    everywhere = torch.ones_like(tokens, dtype=torch.bool)
    with torch.no_grad(), adapter.using(None):
        base = policy.score(tokens, everywhere, everywhere, record_routing=True)
    live = policy.score(tokens, everywhere, everywhere, record_routing=True)
    replayed = policy.score(
        tokens, everywhere, everywhere, replay=base.routing, record_routing=True
    )
    chosen = [each.routing.padded().experts for each in (base, live, replayed)]
    assert not torch.equal(chosen[1], chosen[0])
    assert torch.equal(chosen[2], chosen[0])
    replayed.logprobs.sum().backward()
    assert any(float(w.grad.abs().max()) > 0 for w in adapter.parameters().values())
    assert not any(w.requires_grad for router in policy.hook.routers for w in router.parameters())
