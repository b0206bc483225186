"""A small Llama as a GGUF file, in the layout that llama.cpp defines."""

from pathlib import Path
from typing import Any

import gguf
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.convert_slow_tokenizer import bytes_to_unicode

TEMPLATE = (
    "{% for message in messages %}<|start|>{{ message.role }}\n{{ message.content }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
TOKENS = [*bytes_to_unicode().values(), "in", "<|start|>", "<|end|>"]
NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def small_llama() -> LlamaForCausalLM:
    """Two layers, grouped heads, tied; every row a whole number of blocks of 32."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(TOKENS),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval()


def write_gguf(
    path: Path, model: LlamaForCausalLM, kind: gguf.GGMLQuantizationType, *, arch: str = "llama"
) -> Path:
    """Writes `model`, whose matrices are stored as `kind`, with a tokenizer of bytes."""
    writer = gguf.GGUFWriter(path, arch)
    config = model.config
    writer.add_name("small")
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    _add_tokenizer(writer)
    for name, weight in model.named_parameters():
        _add_tensor(writer, _gguf_name(name), _permuted(name, weight, config), kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: gguf.GGUFWriter) -> None:
    normal, control = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([control if t.startswith("<|") else normal for t in TOKENS])
    writer.add_token_merges(["i n"])
    writer.add_eos_token_id(TOKENS.index("<|end|>"))
    writer.add_pad_token_id(TOKENS.index("<|end|>"))
    writer.add_chat_template(TEMPLATE)


def _gguf_name(name: str) -> str:
    ends = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
    }
    if name in ends:
        return ends[name]
    _, _, layer, *middle, suffix = name.split(".")
    return f"blk.{layer}.{NAMES['.'.join(middle)]}.{suffix}"


def _permuted(name: str, weight: torch.Tensor, config: LlamaConfig) -> Any:
    """llama.cpp turns neighboring components of a head, Transformers its two halves."""
    array = weight.detach().float().numpy()
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for part, count in heads.items():
        if part in name:
            halves = array.reshape(count, 2, -1, array.shape[1])
            return halves.swapaxes(1, 2).reshape(array.shape)
    return array


def _add_tensor(
    writer: gguf.GGUFWriter, name: str, array: Any, kind: gguf.GGMLQuantizationType
) -> None:
    if array.ndim == 1 or kind == gguf.GGMLQuantizationType.F32:
        writer.add_tensor(name, array)
    else:
        writer.add_tensor(name, gguf.quantize(array, kind), raw_dtype=kind)
