"""The stream of weights that external engines read."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from steadyrl.engines.answers import MoeShape
from steadyrl.engines.checkpoint_files import read_tensors, write_tensors
from steadyrl.engines.served_model import ServedModel, completion_seed, weights_of
from steadyrl.policies.policy import Policy
from steadyrl.records.weight_source import StateDictWeights
from tests.engines.vllm.models import olmoe, qwen3_moe


def model_of(policy: Policy, dtype: torch.dtype = torch.float32) -> ServedModel:
    return ServedModel.of(policy, dtype=dtype, rounding="stochastic", seed=3)


@pytest.mark.parametrize("make", [qwen3_moe, olmoe])
def test_it_has_the_names_and_values_of_a_checkpoint(
    make: Callable[[], Policy], tmp_path: Path
) -> None:
    policy = make()
    policy.model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    streamed = dict(model_of(policy).stream(weights_of(policy)))
    assert streamed.keys() == saved.keys()
    assert all(torch.equal(streamed[name], saved[name]) for name in saved)


def test_layers_without_experts_are_counted() -> None:
    expected = MoeShape(layers=(0, 2, 3), num_experts=8, experts_per_token=2)
    assert model_of(qwen3_moe()).moe == expected


def test_weights_are_rounded_by_thresholds_of_their_own() -> None:
    policy = qwen3_moe()
    rounded = dict(model_of(policy, torch.bfloat16).stream(weights_of(policy)))
    exact = dict(model_of(policy).stream(weights_of(policy)))
    again = dict(model_of(policy, torch.bfloat16).stream(weights_of(policy)))
    name = "model.layers.0.self_attn.q_proj.weight"
    assert rounded[name].dtype == torch.bfloat16
    assert torch.equal(rounded[name], again[name])
    nearest = exact[name].bfloat16()
    up = (rounded[name] != nearest).float().mean()
    assert 0.1 < up < 0.4  # of two neighbors, the farther one: in a quarter of cases
    gap = (rounded[name].float() - exact[name]).abs()
    assert bool((gap <= exact[name].abs() * 2**-7).all())


def test_a_tensor_lasts_after_the_next_one_is_taken() -> None:
    policy = qwen3_moe()
    held = list(model_of(policy).stream(weights_of(policy)))
    before = [tensor.clone() for _, tensor in held]
    with torch.no_grad():
        for weight in policy.model.parameters():
            weight.zero_()
    assert all(torch.equal(one, other) for one, (_, other) in zip(before, held, strict=True))


def test_weights_of_another_model_are_refused() -> None:
    policy = qwen3_moe()
    model, weights = model_of(policy), weights_of(policy)
    extra = dict(weights.state) | {"model.head.weight": torch.zeros(2)}
    with pytest.raises(ValueError, match=r"model\.head\.weight does not belong to the model"):
        list(model.stream(replace(weights, state=extra)))
    wide = dict(weights.state) | {"model.norm.weight": torch.zeros(2)}
    with pytest.raises(ValueError, match=r"model\.norm\.weight has shape \(2,\), .* \(64,\)"):
        list(model.stream(replace(weights, state=wide)))
    twice = StateDictWeights(
        state={}, version=0, to_checkpoint=lambda _: iter([*weights.tensors()] * 2)
    )
    with pytest.raises(ValueError, match="came twice"):
        list(model.stream(twice))
    few = {name: weight for name, weight in weights.state.items() if "norm" not in name}
    with pytest.raises(ValueError, match=r"17 weights are missing, .* model\.layers\.0\.input"):
        list(model.stream(replace(weights, state=few)))


def test_it_goes_through_files_shard_by_shard(tmp_path: Path) -> None:
    policy = olmoe()
    streamed = dict(model_of(policy).stream(weights_of(policy)))
    write_tensors(tmp_path, streamed.items(), shard_bytes=1 << 16)
    assert len(list(tmp_path.glob("*.safetensors"))) > 3
    read = dict(read_tensors(tmp_path))
    assert read.keys() == streamed.keys()
    assert all(torch.equal(read[name], streamed[name]) for name in read)


def test_seeds_of_answers_are_their_own() -> None:
    seeds = {completion_seed(seed, index) for seed in range(30) for index in range(30)}
    assert len(seeds) == 900
    assert all(0 <= seed < 2**63 for seed in seeds)
