"""A checkpoint with the chat features of an instruction-tuned model, and next to no weights."""

from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from steadyrl.policies.tokenizers import PAD, character_tokenizer

SPECIAL = ["<|im_start|>", "<|im_end|>"]
ORDINARY = ["<tool_call>", "</tool_call>", "</think>"]
"""Tokens that the tokenizer knows without calling them special."""

TEMPLATE = (  # in the manner of Qwen3: tools join the system message, replies are the user's
    "{%- if tools or messages[0].role == 'system' %}<|im_start|>system\n"
    "{%- if messages[0].role == 'system' %}{{- '\n' + messages[0].content }}{%- endif %}"
    "{%- if tools %}{{- '\n\n# Tools\n<tools>' }}"
    "{%- for tool in tools %}{{- '\n' }}{{- tool | tojson }}{%- endfor %}"
    "{{- '\n</tools>\nCall one as <tool_call>\n{...}\n</tool_call>' }}{%- endif %}"
    "{{- '<|im_end|>\n' }}{%- endif %}"
    "{%- for message in messages %}"
    "{%- if message.role == 'tool' %}"
    "{{- '<|im_start|>user\n<tool_response>\n' + message.content }}"
    "{{- '\n</tool_response><|im_end|>\n' }}"
    "{%- elif message.role != 'system' %}"
    "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)


def write_chat_checkpoint(path: Path) -> Path:
    """A Qwen3 of width 32 with random weights. Its template shows systems, tools and replies."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=character_tokenizer().backend_tokenizer)
    tokenizer.add_tokens(SPECIAL, special_tokens=True)
    tokenizer.add_tokens(ORDINARY)
    tokenizer.eos_token, tokenizer.pad_token = "<|im_end|>", PAD
    tokenizer.chat_template = TEMPLATE
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=16384,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    Qwen3ForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path
