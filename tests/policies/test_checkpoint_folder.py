"""Folders that hold something else than a model."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from steadyrl.base.errors import UserError
from steadyrl.policies.checkpoint_folder import read_pretrained
from steadyrl.policies.loading import load_model, load_tokenizer
from steadyrl.policies.model_settings import Pretrained
from tests.policies.test_loading import TINY_DENSE


def read(path: Path) -> None:
    read_pretrained(AutoModelForCausalLM, str(path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("__0_0.distcp", r"It holds a distributed checkpoint of PyTorch\. Convert it with torch"),
        ("zero_to_fp32.py", r"It holds a DeepSpeed checkpoint\. Run its zero_to_fp32\.py"),
        ("consolidated.00.pth", r"in the format of the model's authors\. Give the -hf one"),
        ("run.json", r"It holds a run of steadyrl\. Give one of the folders in its checkpoints/"),
        ("optimizer.pt", r"the state of an optimizer without weights\. Save the model there too"),
    ],
)
def test_what_a_folder_holds_instead_of_a_model_is_told(
    tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_state_of_an_optimizer_beside_a_config_is_told(tmp_path: Path) -> None:
    load_model(TINY_DENSE, tokenizer=load_tokenizer(TINY_DENSE), seed=0).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "optimizer.safetensors")
    with pytest.raises(UserError, match=r"state of an optimizer without weights"):
        read(tmp_path)


@pytest.mark.parametrize("with_model", [False, True])
def test_an_adapter_is_not_taken_for_its_model(tmp_path: Path, with_model: bool) -> None:
    if with_model:
        model = load_model(TINY_DENSE, tokenizer=load_tokenizer(TINY_DENSE), seed=0)
        model.save_pretrained(tmp_path)
    content = {"peft_type": "LORA", "base_model_name_or_path": "org/base"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(content))
    with pytest.raises(
        UserError, match=r"is an adapter of 'org/base', .* 'steadyrl merge .* --out FOLDER'"
    ):
        read(tmp_path)


@pytest.mark.parametrize("lost", ["index", "shard"])
def test_half_of_the_shards_are_not_a_model(tmp_path: Path, lost: str) -> None:
    tokenizer = load_tokenizer(TINY_DENSE)
    model = load_model(TINY_DENSE, tokenizer=tokenizer, seed=0)
    model.save_pretrained(tmp_path, max_shard_size="8KB")
    index = tmp_path / "model.safetensors.index.json"
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    if lost == "index":  # the index forgets what the first shard holds
        content = json.loads(index.read_text())
        kept = {n: s for n, s in content["weight_map"].items() if s != shards[0].name}
        index.write_text(json.dumps(content | {"weight_map": kept}))
    else:
        shards[0].unlink()
    with pytest.raises(UserError, match=r"is incomplete: |cannot be loaded: .*model-00001-of"):
        load_model(Pretrained(path=str(tmp_path)), tokenizer=tokenizer, seed=0)


def test_a_quantized_checkpoint_is_refused(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(TINY_DENSE)
    load_model(TINY_DENSE, tokenizer=tokenizer, seed=0).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4, "group_size": 8}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"quantized \(gptq\): .* dequantize and save it"):
        load_model(Pretrained(path=str(tmp_path)), tokenizer=tokenizer, seed=0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="kernels for FP8 keep it quantized")
def test_a_quantization_that_is_undone_on_loading_is_let_through(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(TINY_DENSE)
    model = load_model(TINY_DENSE, tokenizer=tokenizer, seed=0)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "fp8", "weight_block_size": [8, 8]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = load_model(Pretrained(path=str(tmp_path)), tokenizer=tokenizer, seed=0)
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)
