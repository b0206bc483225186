"""Whether Transformers 4 reads saved checkpoints as the version that wrote them does.

    make older-readers                                  an environment of its own, small models
    make older-readers CHECKPOINT=path/to/a/model       that checkpoint too

For each family, a small model with settings that are not its defaults is saved twice: as
Transformers 5 does it, and as runs of steadyrl do. The other version then reads both. Prints the
largest difference of logits, relative to the largest logit, and whether tokens, prompt and end
token are the same; ends with 1 where a checkpoint of steadyrl is read as something else.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from steadyrl.policies.loading import load_model, load_tokenizer, no_progress_bars
from steadyrl.policies.model_settings import Pretrained
from steadyrl.policies.older_readers import save_for_all_readers
from steadyrl.policies.tokenizers import character_tokenizer

TEXT = "What is 3+4*2? <b>Say</b> it\n in   words."
TOLERANCE = 64 * torch.finfo(torch.float32).eps
SHARED = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "intermediate_size": 16,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
}
EXPERTS = {"num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 16}


def rope(theta: float, **others: object) -> dict[str, object]:
    """Rotary parameters under the names of Transformers 5."""
    return {"rope_parameters": {"rope_type": "default", "rope_theta": theta, **others}}


LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
FAMILIES = {
    "llama": rope(1e5),  # as SmolLM2
    "llama (llama3)": rope(5e5, rope_type="llama3", factor=8.0, **LLAMA3),
    "qwen2": {**rope(1e6), "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    "qwen3": {**rope(1e6), "head_dim": 32},
    "qwen3 (yarn)": {**rope(1e6, **YARN), "head_dim": 16},
    "qwen3_moe": {**rope(1e6), **EXPERTS, "head_dim": 16, "norm_topk_prob": True},
    "qwen2_moe": {**rope(1e5), **EXPERTS, "shared_expert_intermediate_size": 16},
    "olmoe": {**rope(5e4), "num_experts": 6, "num_experts_per_tok": 3},
    "mixtral": {**rope(1e5), "num_local_experts": 6, "head_dim": 16, "sliding_window": 4},
    "mistral": {**rope(1e5), "sliding_window": 4, "head_dim": 32},
    "gemma2": {**rope(1e5), "head_dim": 16, "sliding_window": 4, "query_pre_attn_scalar": 16},
    "gemma3_text": {
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5},
            "sliding_attention": {"rope_type": "default", "rope_theta": 5e3},
        },
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "head_dim": 16,
        "sliding_window": 4,
    },
    "gpt_oss": {
        **rope(5e4),
        "head_dim": 16,
        "num_local_experts": 6,
        "num_experts_per_tok": 3,
        "sliding_window": 4,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "phi3": rope(1e5, partial_rotary_factor=0.5),
    "glm4": {**rope(1e5, partial_rotary_factor=0.5), "head_dim": 16},
    "gpt_neox": rope(1e5, partial_rotary_factor=0.5),
    "deepseek_v3": {
        **rope(1e5),
        "num_experts_per_tok": 2,
        "n_routed_experts": 8,
        "moe_intermediate_size": 16,
        "first_k_dense_replace": 1,
        "kv_lora_rank": 8,
        "q_lora_rank": 8,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8,
        "v_head_dim": 8,
        "n_group": 2,
        "topk_group": 1,
    },
}


def small(name: str, vocabulary: int) -> PreTrainedModel:
    """A model of the family with weights large enough that every setting shows in its logits."""
    settings = {**SHARED, **FAMILIES[name], "vocab_size": vocabulary}
    torch.manual_seed(0)
    config = AutoConfig.for_model(name.partition(" ")[0], **settings)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(5) if weight.dim() > 1 else weight.add_(0.1 * torch.randn_like(weight))
    return model


def save(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Saves both ways, with what this version computes; returns the two folders."""
    vocabulary = model.config.get_text_config().vocab_size
    tokens = torch.arange(40)[None].mul(7).remainder(vocabulary)
    with torch.no_grad():
        expected = {"tokens": tokens, "logits": model(input_ids=tokens).logits}
    plain, ours = folder / "plain", folder / "ours"
    ours.mkdir(parents=True)
    with no_progress_bars():
        model.save_pretrained(plain)
        tokenizer.save_pretrained(plain)
        save_for_all_readers(ours, model, tokenizer)
    for path in (plain, ours):
        torch.save(expected, path / "expected.pt")
    return [str(plain), str(ours)]


def expected_facts(tokenizer: PreTrainedTokenizerBase) -> dict[str, object]:
    """What this version makes of the text."""
    chat = [{"role": "user", "content": TEXT}]
    options = {"tokenize": False, "add_generation_prompt": True}
    return {
        "tokens": tokenizer(TEXT, add_special_tokens=False)["input_ids"],
        "prompt": tokenizer.apply_chat_template(chat, **options),
        "end": tokenizer.eos_token_id,
    }


def told(found: dict, expected: dict) -> tuple[str, bool]:
    """One column of the table, and whether the checkpoint is read as it was written."""
    same = all(found.get(name) == value for name, value in expected.items())
    difference = found["difference"]
    if difference is None:
        return f"not read: {found['failure'].split(':')[0]}", False
    tokens = "tokens the same" if same else "tokens differ"
    text = f"{difference:.1e}, {'no tokenizer' if found['tokens'] is None else tokens}"
    return text, same and difference <= TOLERANCE


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--python", required=True, help="Python of the other environment.")
    parser.add_argument("--checkpoint", default="", help="A checkpoint to try too.")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="steadyrl-") as temporary:
        characters, folders, expected = character_tokenizer(), [], []
        for name in FAMILIES:
            model = small(name, len(characters))
            folders += save(Path(temporary) / name, model, characters)
            expected.append(expected_facts(characters))
        names = list(FAMILIES)
        if options.checkpoint:
            settings = Pretrained(path=options.checkpoint)
            tokenizer = load_tokenizer(settings)
            model = load_model(settings, tokenizer=tokenizer, seed=0)
            folders += save(Path(temporary) / "checkpoint", model, tokenizer)
            expected.append(expected_facts(tokenizer))
            names.append(Path(options.checkpoint).name)
        reader = str(Path(__file__).with_name("older_reader.py"))
        done = subprocess.run(
            [options.python, reader, TEXT, *folders], capture_output=True, text=True, check=True
        )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    print(f"| read by Transformers {found[0]['version']} | saved by Transformers 5 | by steadyrl |")
    print("|---|---|---|")
    sound = True
    for number, name in enumerate(names):
        plain, _ = told(found[2 * number], expected[number])
        ours, right = told(found[2 * number + 1], expected[number])
        sound &= right
        print(f"| {name} | {plain} | {ours} |")
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
