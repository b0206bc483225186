"""Sizes from the configuration alone, against models that have weights."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from steadyrl.policies.loading import load_model, load_tokenizer
from steadyrl.policies.model_settings import ModelSettings, Pretrained, SmallDense, SmallMoE
from steadyrl.policies.model_size import ModelSize, pass_memory
from tests.run.checkpoints import write_checkpoint

DENSE, MOE = SmallDense(), SmallMoE(experts=4, experts_per_token=2)
LENGTH = 32


def real(settings: ModelSettings) -> PreTrainedModel:
    return load_model(settings, tokenizer=load_tokenizer(settings), seed=0)


def saved_by(model: PreTrainedModel) -> int:
    """Bytes that autograd saves in a real pass over one row, weights excluded."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    found: dict[int, int] = {}
    kept: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept.append(tensor)  # or the next one could have its address
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        tokens = torch.arange(LENGTH)[None]
        model.base_model(input_ids=tokens, position_ids=tokens, use_cache=False)
    return sum(found.values())


@pytest.mark.parametrize("settings", [DENSE, MOE], ids=["dense", "moe"])
def test_parameters_are_counted_without_any_weights(settings: ModelSettings) -> None:
    size = ModelSize.of(settings, load_tokenizer(settings))

    assert size.parameters == sum(weight.numel() for weight in real(settings).parameters())
    assert (size.layers, size.width) == (3, 64)


def test_a_checkpoint_needs_only_its_configuration(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", DENSE)
    (folder / "model.safetensors").unlink()
    settings = Pretrained(path=str(folder))

    size = ModelSize.of(settings, load_tokenizer(settings))

    assert size == ModelSize.of(DENSE, load_tokenizer(DENSE))
    assert size.experts_per_token == 0
    assert ModelSize.of(MOE, load_tokenizer(MOE)).experts_per_token == 2


def test_activations_are_those_that_a_real_pass_saves_or_little_more() -> None:
    planned = pass_memory(
        DENSE, load_tokenizer(DENSE), routed=False, dtype=torch.float32, length=LENGTH
    )

    assert planned is not None
    saved = saved_by(real(DENSE))
    assert saved <= planned.activations * LENGTH < 1.1 * saved


def test_activations_of_experts_are_planned_within_a_quarter() -> None:
    planned = pass_memory(MOE, load_tokenizer(MOE), routed=True, dtype=torch.float32, length=LENGTH)

    assert planned is not None
    assert planned.activations * LENGTH == pytest.approx(saved_by(real(MOE)), rel=0.25)


def test_keys_and_values_are_two_rows_of_each_head_and_layer() -> None:
    planned = pass_memory(
        DENSE, load_tokenizer(DENSE), routed=False, dtype=torch.bfloat16, length=8
    )

    assert planned is not None
    assert planned.cache == 3 * 2 * 2 * 16 * 2  # layers, k and v, heads, width, bytes
