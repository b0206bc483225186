"""Rounding of weights and activations, against arithmetic written out."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
)

from steadyrl.base.errors import UserError
from steadyrl.engines.protocol import Sampling
from steadyrl.policies.loading import model_from_config
from steadyrl.policies.numerics import (
    LowPrecision,
    Numerics,
    Rounding,
    WeightScaling,
    round_in_blocks,
    round_to_fp8,
    round_to_int4,
    round_to_int8,
)
from tests.closeness import assert_close, tolerance
from tests.driving import generate
from tests.engines.builders import (
    OTHER_MODELS,
    engine_model,
    flat,
    local_engine,
    policy_of,
    some_requests,
)
from tests.policies.families import FAMILIES, SHARED, family_model, scaled_up

ROUNDINGS = pytest.mark.parametrize("rounding", [round_to_fp8, round_to_int8, round_to_int4])


def e4m3(code: int) -> float:
    """The value of an 8-bit code: sign, 4 bits of exponent with bias 7, 3 of mantissa."""
    sign = -1.0 if code & 0x80 else 1.0
    exponent, mantissa = (code >> 3) & 0xF, code & 0x7
    if exponent == 0xF and mantissa == 0x7:
        return math.nan
    if exponent == 0:
        return sign * mantissa * 2.0**-9
    return sign * (8 + mantissa) * 2.0 ** (exponent - 10)


POSITIVE = [e4m3(code) for code in range(127)]


def nearest(value: float) -> float:
    """The nearest e4m3 value; of two, the one whose mantissa is even."""
    gaps = [abs(abs(value) - candidate) for candidate in POSITIVE]
    closest = [code for code, gap in enumerate(gaps) if gap == min(gaps)]
    code = next(code for code in closest if len(closest) == 1 or code % 2 == 0)
    return math.copysign(POSITIVE[code], value)


def test_all_e4m3_values_stay_what_they_are() -> None:
    codes = torch.arange(256, dtype=torch.uint8)
    values = [e4m3(code) for code in codes.tolist()]
    read = codes.view(torch.float8_e4m3fn).to(torch.float64)
    expected = torch.tensor(values, dtype=torch.float64)
    torch.testing.assert_close(read, expected, rtol=0, atol=0, equal_nan=True)
    # 448 is among them, so the scale is 1.
    finite = torch.tensor([value for value in values if not math.isnan(value)])
    assert finite.max().item() == 448
    assert torch.equal(round_to_fp8(finite.double()), finite.double())


def test_fp8_takes_the_nearest_value_and_of_two_the_even_one() -> None:
    middles = [(low + high) / 2 for low, high in pairwise(POSITIVE)]
    beside = [middle * factor for middle in middles for factor in (1 - 1e-5, 1 + 1e-5)]
    spread = torch.linspace(-447, 447, 999, dtype=torch.float64).tolist()
    values = [448.0, *middles, *[-middle for middle in middles], *beside, *spread]
    rounded = round_to_fp8(torch.tensor(values, dtype=torch.float64))
    assert rounded.tolist() == [nearest(value) for value in values]


@settings(deadline=None, max_examples=60)
@given(
    values=st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=20),
    magnitude=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_fp8_errs_by_a_sixteenth_at_most_and_keeps_the_largest(
    values: list[float], magnitude: float
) -> None:
    row = torch.tensor(values, dtype=torch.float64) * magnitude
    rounded = round_to_fp8(row)
    scale = max(row.abs().max().item(), 1e-12) / 448
    # Half a unit of 3 mantissa bits, relative; half of 2^-9 below the smallest normal 2^-6.
    bound = torch.maximum(row.abs() * 2**-4, torch.tensor(scale * 2**-10)) * (1 + 1e-6)
    assert ((rounded - row).abs() <= bound).all()
    assert rounded.abs().max().item() == pytest.approx(row.abs().max().item(), rel=1e-6, abs=1e-12)
    assert (rounded[row == 0] == 0).all()


@settings(deadline=None, max_examples=60)
@given(values=st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=20))
@pytest.mark.parametrize(("rounding", "largest"), [(round_to_int8, 127), (round_to_int4, 7)])
def test_integers_err_by_half_a_level_at_most(
    rounding: Rounding, largest: int, values: list[float]
) -> None:
    row = torch.tensor(values, dtype=torch.float64)
    scale = max(row.abs().max().item(), 1e-12) / largest
    rounded = rounding(row, -1)
    assert ((rounded - row).abs() <= scale / 2 * (1 + 1e-5)).all()
    levels = rounded / scale
    assert (levels - levels.round()).abs().max().item() < tolerance(float(largest), terms=8)
    assert levels.abs().max().item() <= largest * (1 + 1e-6)


@ROUNDINGS
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_rounding_twice_is_rounding_once(rounding: Rounding, dtype: torch.dtype) -> None:
    # The scale of a second rounding may differ in the last bit of float32.
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(50, 40, generator=generator).to(dtype)
    once = rounding(values, -1)
    assert once.dtype == dtype
    twice = rounding(once, -1)
    torch.testing.assert_close(twice.double(), once.double(), rtol=1e-6, atol=0)


@ROUNDINGS
def test_rows_of_zeros_and_huge_values_stay_finite(rounding: Rounding) -> None:
    rows = torch.tensor([[0.0, 0.0], [1e-30, -1e-30], [3e38, -3e38]])
    rounded = rounding(rows, -1)
    assert rounded[:2].abs().max().item() <= 1e-12
    torch.testing.assert_close(rounded[2], rows[2], rtol=1e-6, atol=0)


@ROUNDINGS
def test_each_row_has_its_own_scale(rounding: Rounding) -> None:
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(4, 30, generator=generator)
    factors = torch.tensor([[1e-3], [1.0], [8.0], [1e3]])
    rows = torch.stack([rounding(row, -1) for row in values * factors])
    assert torch.equal(rounding(values * factors, -1), rows)
    assert torch.equal(rounding((values * factors).T.contiguous(), -2), rows.T)


@ROUNDINGS
@pytest.mark.parametrize("shape", [(3, 5), (128, 256), (129, 130), (2, 200, 140)])
def test_rounding_in_blocks_is_rounding_tile_by_tile(
    rounding: Rounding, shape: tuple[int, ...]
) -> None:
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(shape, generator=generator) * torch.logspace(-2, 2, shape[-1])
    expected = torch.empty_like(weight)
    for matrix, result in zip(
        weight.view(-1, *shape[-2:]), expected.view(-1, *shape[-2:]), strict=True
    ):
        for top in range(0, shape[-2], 128):
            for left in range(0, shape[-1], 128):
                tile = matrix[top : top + 128, left : left + 128]
                flat_tile = rounding(tile.flatten(), -1)
                result[top : top + 128, left : left + 128] = flat_tile.view(tile.shape)
    assert torch.equal(round_in_blocks(weight, rounding), expected)


def test_emulated_fp8_linear_is_the_scaled_matrix_product() -> None:
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(16, 32, generator=generator)
    weight = torch.randn(48, 32, generator=generator)

    def quantised(rows: Tensor) -> tuple[Tensor, Tensor]:
        scale = rows.abs().amax(dim=1, keepdim=True) / 448
        return (rows / scale).to(torch.float8_e4m3fn), scale

    (left, left_scale), (right, right_scale) = quantised(inputs), quantised(weight)
    try:
        product = torch._scaled_mm(
            left,
            right.T,
            scale_a=left_scale,
            scale_b=right_scale.T.contiguous(),
            out_dtype=torch.float32,
        )
    except (RuntimeError, NotImplementedError, AttributeError) as error:
        pytest.skip(f"this PyTorch has no row-wise scaled product here: {error}")
    emulated = nn.functional.linear(round_to_fp8(inputs), round_to_fp8(weight))
    assert_close(emulated, product)


def lowered(
    model: PreTrainedModel, numerics: Numerics, scaling: WeightScaling = WeightScaling.CHANNEL
) -> PreTrainedModel:
    """A copy of `model` in lower precision."""
    twin = model_from_config(model, torch.float32)
    twin.load_state_dict(model.state_dict())
    LowPrecision(twin, numerics, scaling).round_weights()
    return twin


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("scaling", WeightScaling)
def test_every_matrix_but_head_router_and_embedding_is_rounded(
    family: str, scaling: WeightScaling
) -> None:
    model = family_model(family)
    twin = lowered(model, Numerics.FP8, scaling)
    expected_kept = ("embed_tokens", "lm_head", "norm", "gate.", "router.", "bias", "sinks")
    weights = twin.state_dict()
    for name, weight in model.state_dict().items():
        changed = not torch.equal(weight, weights[name])
        kept = any(part in name for part in expected_kept)
        assert changed is not kept, name


@pytest.mark.parametrize("model", ["qwen3_moe", "gpt_oss"])
@pytest.mark.parametrize("scaling", WeightScaling)
@pytest.mark.parametrize(
    ("numerics", "rounding"), [(Numerics.FP8, round_to_fp8), (Numerics.INT8, round_to_int8)]
)
def test_experts_round_their_input_their_weights_and_what_is_between(
    model: str, scaling: WeightScaling, numerics: Numerics, rounding: Rounding
) -> None:
    whole = family_model(model)
    twin = lowered(whole, numerics, scaling)
    original = whole.model.layers[0].mlp.experts
    experts = twin.model.layers[0].mlp.experts
    generator = torch.Generator().manual_seed(4)
    hidden = torch.randn(6, 32, generator=generator)
    chosen = torch.stack([torch.randperm(8, generator=generator)[:2] for _ in range(6)])
    shares = torch.rand(6, 2, generator=generator)
    with torch.no_grad():
        actual = experts(hidden, chosen, shares)
        ours = by_hand(original, hidden, chosen, shares, scaling, rounding, rounding)
        inner_kept = by_hand(original, hidden, chosen, shares, scaling, rounding, lambda x, _: x)
    assert_close(actual, ours)
    assert (actual - inner_kept).abs().max().item() > 5e-4


def by_hand(
    experts: nn.Module,
    hidden: Tensor,
    chosen: Tensor,
    shares: Tensor,
    scaling: WeightScaling,
    rounding: Rounding,
    inner: Callable[[Tensor, int], Tensor],
) -> Tensor:
    """The experts one token and one expert at a time."""
    output = torch.zeros_like(hidden)
    for token, numbers in enumerate(chosen.tolist()):
        for share, number in zip(shares[token], numbers, strict=True):
            first = rounded_matrix(experts, "gate_up_proj", number, scaling, rounding)
            second = rounded_matrix(experts, "down_proj", number, scaling, rounding)
            between = rounding(hidden[token], -1) @ first
            if experts.has_bias:
                between = between + experts.gate_up_proj_bias[number]
            result = inner(type(experts)._apply_gate(experts, between[None])[0], -1) @ second
            if experts.has_bias:
                result = result + experts.down_proj_bias[number]
            output[token] += share * result
    return output


def rounded_matrix(
    experts: nn.Module, name: str, number: int, scaling: WeightScaling, rounding: Rounding
) -> Tensor:
    """One expert's weight, from input to output, under one scale per output channel or block."""
    weight = getattr(experts, name)[number]
    matrix = weight if experts.is_transposed else weight.T
    if scaling is WeightScaling.CHANNEL:
        return torch.stack([rounding(column, -1) for column in matrix.T], dim=1)
    return rounding(matrix.flatten(), -1).view_as(matrix)  # smaller than one block


@pytest.mark.parametrize("numerics", [Numerics.FP8, Numerics.INT8])
def test_linear_layers_round_input_and_weight_and_the_head_does_not(numerics: Numerics) -> None:
    rounding = round_to_fp8 if numerics is Numerics.FP8 else round_to_int8
    model = scaled_up(OTHER_MODELS["qwen3"])
    twin = lowered(model, numerics)
    inputs = torch.randn(5, 32, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        weight = model.model.layers[0].self_attn.q_proj.weight
        projected = twin.model.layers[0].self_attn.q_proj(inputs)
        assert torch.equal(projected, rounding(inputs, -1) @ rounding(weight, -1).T)
        assert torch.equal(twin.lm_head(inputs), model.lm_head(inputs))


def test_an_input_that_changes_in_place_is_rounded_anew() -> None:
    twin = lowered(family_model("qwen3_moe"), Numerics.FP8)
    attention = twin.model.layers[0].self_attn
    hidden = torch.randn(3, 32, generator=torch.Generator().manual_seed(5))
    for _ in range(2):
        for linear in (attention.q_proj, attention.k_proj):
            expected = nn.functional.linear(round_to_fp8(hidden), linear.weight)
            assert torch.equal(linear(hidden), expected)
        hidden.mul_(1.1)


def test_int4_rounds_the_weights_alone() -> None:
    model = scaled_up(OTHER_MODELS["qwen3"])
    twin = lowered(model, Numerics.INT4)
    inputs = torch.randn(5, 32, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        weight = model.model.layers[0].self_attn.q_proj.weight
        projected = twin.model.layers[0].self_attn.q_proj(inputs)
        assert torch.equal(projected, inputs @ round_to_int4(weight, -1).T)


@pytest.mark.parametrize("model", ["qwen3_moe", "qwen3"])
def test_mismatch_grows_from_float32_over_bfloat16_and_fp8_to_int4(model: str) -> None:
    policy = policy_of(model)
    k3, rounding = {}, 0.0
    for numerics in Numerics:
        terms = []
        engine = local_engine(policy, numerics=numerics)
        for answer in flat(generate(engine, some_requests((4, 6)), Sampling(max_new_tokens=8))):
            tokens = torch.cat([answer.prompt_ids, answer.token_ids])[None]
            everything = torch.ones_like(tokens, dtype=torch.bool)
            with torch.no_grad():
                logprobs = policy.score(tokens, everything, everything).logprobs
            gap = (logprobs[0, len(answer.prompt_ids) :] - answer.logprobs).double()
            terms.append(gap.expm1() - gap)
            rounding = max(rounding, tolerance(logprobs) ** 2 / 2)  # k3 is half a square
        k3[numerics] = torch.cat(terms).mean().item()
    assert k3[Numerics.FLOAT32] <= rounding
    assert k3[Numerics.BFLOAT16] > 100 * k3[Numerics.FLOAT32]
    assert k3[Numerics.FP8] > 3 * k3[Numerics.BFLOAT16]
    assert k3[Numerics.INT4] > k3[Numerics.FP8] > k3[Numerics.INT8] > k3[Numerics.FLOAT32]


def test_fp8_engines_with_and_without_cache_round_the_same_values() -> None:
    # Every token is rounded under its own scale, so a prompt's values do not depend on its answers.
    policy = policy_of("qwen3")
    model = engine_model(policy, Numerics.FP8).model
    tokens = torch.tensor([[7, 8, 9, 10, 11]])
    with torch.no_grad():
        long = model(input_ids=tokens).logits[0, :3]
        short = model(input_ids=tokens[:, :3]).logits[0]
    assert_close(long, short)


def test_matrices_outside_linear_layers_are_refused() -> None:
    config = GPT2Config(vocab_size=8, n_embd=8, n_layer=1, n_head=1)
    with pytest.raises(
        UserError,
        match=r"GPT2LMHeadModel has weights in 'h.0.attn.c_attn', a Conv1D.* Use engine numerics",
    ):
        LowPrecision(GPT2LMHeadModel(config), Numerics.FP8, WeightScaling.CHANNEL)


def test_of_a_model_that_sees_images_too_what_text_goes_through_is_rounded() -> None:
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    config = Gemma3Config(
        text_config={**SHARED, "head_dim": 16, "intermediate_size": 16},
        vision_config={**vision, "num_attention_heads": 2, "image_size": 16, "patch_size": 8},
        mm_tokens_per_image=1,
        tie_word_embeddings=False,
    )
    model = scaled_up(lambda: Gemma3ForConditionalGeneration(config))
    weights = lowered(model, Numerics.FP8).state_dict()
    kept = ("vision_tower", "multi_modal_projector", "embed_tokens", "lm_head", "norm")
    for name, weight in model.state_dict().items():
        changed = not torch.equal(weight, weights[name])
        assert changed is not any(part in name for part in kept), name


def test_experts_without_the_gated_interface_are_refused() -> None:
    model = family_model("qwen3_moe")
    model.model.layers[0].mlp.experts.has_gate = False
    with pytest.raises(
        UserError, match=r"Qwen3MoeForCausalLM has experts without .* float32 or bfloat16"
    ):
        LowPrecision(model, Numerics.INT8, WeightScaling.CHANNEL)
