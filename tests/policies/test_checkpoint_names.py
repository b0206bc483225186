"""Streamed weights are those that `save_pretrained` writes."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from steadyrl.policies.checkpoint_names import to_checkpoint_names
from tests.policies.families import FAMILIES, SHARED


def tied() -> PreTrainedModel:
    config = Qwen3Config(**SHARED, head_dim=16, intermediate_size=16, tie_word_embeddings=True)
    return Qwen3ForCausalLM(config)


@pytest.mark.parametrize("make", [*FAMILIES.values(), tied])
def test_names_and_values_are_those_of_the_saved_checkpoint(make, tmp_path: Path) -> None:
    model = make()
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    streamed = dict(to_checkpoint_names(model, model.state_dict().items()))

    assert streamed.keys() == saved.keys()
    assert all(torch.equal(streamed[name], saved[name]) for name in saved)


def test_experts_are_separate_in_a_checkpoint() -> None:
    model = FAMILIES["qwen3_moe"]()
    fused = model.state_dict()["model.layers.0.mlp.experts.down_proj"]
    streamed = dict(to_checkpoint_names(model, model.state_dict().items()))
    for number, expert in enumerate(fused):
        assert torch.equal(
            streamed[f"model.layers.0.mlp.experts.{number}.down_proj.weight"], expert
        )
