"""A float32 head on a bfloat16 model: its logits against float64, and families that cannot."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from steadyrl.base.errors import UserError
from steadyrl.policies.float32_head import Float32Linear
from steadyrl.policies.loading import model_from_config, set_dtype
from steadyrl.policies.output_head import OutputHead
from steadyrl.policies.policy import Policy
from steadyrl.policies.token_scores import scores_by_head
from steadyrl.policies.tokenizers import character_tokenizer
from tests.closeness import assert_close, tolerance
from tests.engines.builders import gemma2, gpt2, qwen3
from tests.policies.families import SHARED, VOCABULARY, scaled_up

FAMILIES = {"untied": qwen3, "tied": gpt2, "tied_with_cap": gemma2}


def with_float32_head(build: Callable[[], PreTrainedModel]) -> PreTrainedModel:
    """A model in bfloat16 below its head."""
    model = scaled_up(build)
    set_dtype(model, torch.bfloat16, "float32")
    return model


def capped(logits: Tensor, model: PreTrainedModel) -> Tensor:
    cap = getattr(model.config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def exact_logits(model: PreTrainedModel, tokens: Tensor) -> Tensor:
    """The logits of the model's own last states, in float64."""
    positions = torch.arange(tokens.shape[1])[None]
    states = model.base_model(input_ids=tokens, position_ids=positions).last_hidden_state
    weight = model.get_output_embeddings().weight
    return capped(states.double() @ weight.double().T, model)


TOKENS = torch.randint(VOCABULARY, (3, 7), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("build", FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_scores_of_a_bfloat16_policy_are_those_of_its_states_in_float64(
    build: Callable[[], PreTrainedModel], temperature: float
) -> None:
    model = with_float32_head(build)
    policy = Policy(model, character_tokenizer())
    everywhere = torch.ones_like(TOKENS, dtype=torch.bool)
    with torch.no_grad():
        logits = exact_logits(model, TOKENS)[:, :-1] / temperature
        found = policy.score(TOKENS, everywhere, everywhere, temperature=temperature)
    exact = logits.log_softmax(dim=-1)
    expected = exact.gather(-1, TOKENS[:, 1:, None]).squeeze(-1)
    entropy = -(exact.exp() * exact).sum(dim=-1)

    assert policy.head_dtype == "float32"
    # Rounded to bfloat16, logits alone would be off by 2^-9 of their size, and not by 2^-16.
    assert_close(found.logprobs[:, 1:], expected, terms=VOCABULARY)
    assert_close(found.entropy[:, 1:], entropy, terms=VOCABULARY)


@pytest.mark.parametrize("build", FAMILIES.values(), ids=FAMILIES)
def test_logits_of_some_positions_are_those_of_all_to_float32(build) -> None:
    model = with_float32_head(build)
    at = torch.tensor([[False, True, False, True, False, False, True]]).expand(3, -1)
    with torch.no_grad():
        found = OutputHead(model).logits({"input_ids": TOKENS}, at)
        full = model(input_ids=TOKENS).logits
        expected = exact_logits(model, TOKENS)

    assert_close(found, full[at])
    assert_close(full, expected)


@pytest.mark.parametrize("weight_dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_scores_and_gradients_of_the_head_are_those_of_float64(
    weight_dtype: torch.dtype, keeps: bool, bias: bool
) -> None:
    torch.manual_seed(0)
    states = torch.randn(40, 8).bfloat16().requires_grad_()
    head = Float32Linear(8, 300, bias).to(weight_dtype)
    targets = torch.arange(40)[:, None] * 7
    weights = torch.linspace(-1, 1, 40, dtype=torch.float64)[:, None]
    memory = 4 * 300 * 40 if keeps else 0
    found, entropy = scores_by_head(
        states, head, targets, temperature=0.8, memory=memory, working_memory=4 * 300 * 9
    )
    (found.double() * weights).sum().backward()

    leaves = [states, *head.parameters()]
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    logits = nn.functional.linear(*exact) / 0.8
    every = logits.log_softmax(dim=-1)
    expected = every.gather(-1, targets)
    (expected * weights).sum().backward()

    assert found.dtype == entropy.dtype == torch.float32
    assert_close(found, expected, terms=300)
    assert_close(entropy, -(every.exp() * every).sum(dim=-1), terms=300)
    for leaf, twin in zip(leaves, exact, strict=True):
        assert leaf.grad.dtype == leaf.dtype
        # A gradient in bfloat16 is the float32 one, rounded once.
        allowed = 0.51 * torch.finfo(leaf.dtype).eps * twin.grad.abs()
        allowed += tolerance(twin.grad, terms=300, dtype=torch.float32)
        assert ((leaf.grad.double() - twin.grad).abs() <= allowed).all()


@pytest.mark.parametrize("build", FAMILIES.values(), ids=FAMILIES)
def test_a_head_of_its_own_keeps_its_bits_and_a_tied_one_the_embedding(build) -> None:
    model = scaled_up(build)
    exact = model.get_output_embeddings().weight.detach().clone()
    precise = set_dtype(model, torch.bfloat16, "float32")
    head, embedding = model.get_output_embeddings().weight, model.get_input_embeddings().weight

    assert model.config.dtype == embedding.dtype == torch.bfloat16
    if build is qwen3:
        assert torch.equal(head, exact)  # in float32
        assert precise.keys() == {n for n, _ in model.named_parameters()} - {"lm_head.weight"}
    else:
        assert head is embedding
        assert precise.keys() == {name for name, _ in model.named_parameters()}


def test_a_twin_has_the_head_that_it_is_given() -> None:
    for build in FAMILIES.values():
        model = with_float32_head(build)
        twin = model_from_config(model, torch.bfloat16, "float32")
        types = {name: weight.dtype for name, weight in model.named_parameters()}
        assert types == {name: weight.dtype for name, weight in twin.named_parameters()}
        assert type(twin.get_output_embeddings()) is Float32Linear
        plain = model_from_config(model, torch.bfloat16)
        assert type(plain.get_output_embeddings()) is nn.Linear


# Families whose head cannot be computed in float32.


class RoundsLogits(Qwen3ForCausalLM):
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        outputs = super().forward(*args, **kwargs)
        outputs.logits = outputs.logits.to(self.model.dtype)
        return outputs


class GoesPastItsHead(Qwen3ForCausalLM):
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        outputs = super().forward(*args, **kwargs)
        states = self.model(*args, **kwargs).last_hidden_state
        outputs.logits = (states @ self.lm_head.weight.to(states.dtype).T).float()
        return outputs


class NeedsItsType(Qwen3ForCausalLM):
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        outputs = super().forward(*args, **kwargs)
        scale = torch.eye(VOCABULARY, dtype=self.model.dtype)
        outputs.logits = outputs.logits @ scale
        return outputs


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        (RoundsLogits, "the family rounds its logits, or computes them elsewhere"),
        (GoesPastItsHead, "the family rounds its logits, or computes them elsewhere"),
        (NeedsItsType, "the family fails with it: expected m1 and m2 to have the same dtype"),
    ],
)
def test_a_family_that_cannot_is_refused_in_a_sentence(family: type, reason: str) -> None:
    def build() -> PreTrainedModel:
        return family(Qwen3Config(**SHARED, head_dim=16, intermediate_size=16))

    with pytest.raises(UserError) as refusal:
        OutputHead(with_float32_head(build))
    said = str(refusal.value)
    assert said.startswith(
        f"The output head of {family.__name__} cannot be computed in float32: {reason}"
    )
    assert said.endswith("Set learner.head_dtype and engine.head_dtype to 'model'.")
    model = scaled_up(build)
    set_dtype(model, torch.bfloat16)
    assert OutputHead(model).dtype == "model"


class OwnLinear(nn.Linear):
    pass


def test_a_head_that_is_not_a_linear_layer_is_refused() -> None:
    model = qwen3()
    model.lm_head = OwnLinear(32, VOCABULARY, bias=False)
    with pytest.raises(UserError, match=r"it is a OwnLinear, not a linear layer\. Set"):
        set_dtype(model, torch.bfloat16, "float32")


def test_a_head_whose_weights_are_zero_is_not_refused() -> None:
    model = with_float32_head(qwen3)
    with torch.no_grad():
        model.lm_head.weight.zero_()
    assert OutputHead(model).dtype == "float32"
