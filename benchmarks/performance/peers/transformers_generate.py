"""Transformers: `generate` on fixed batches, and its continuous batching."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import ContinuousBatchingConfig, GenerationConfig, PreTrainedModel

PAGE = 32
"""Tokens in one block of the cache of continuous batching."""


def generation_config(
    end_token_id: int, pad_token_id: int, max_new_tokens: int, copies: int
) -> GenerationConfig:
    """Plain sampling, `copies` answers to each prompt."""
    return GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=max_new_tokens,
        num_return_sequences=copies,
        eos_token_id=end_token_id,
        pad_token_id=pad_token_id,
    )


@torch.no_grad()
def generate(
    model: PreTrainedModel, prompts: Sequence[Tensor], settings: GenerationConfig
) -> list[int]:
    """Lengths of the answers, all written in one batch.

    It is over when its longest answer is: what rows write after their end token is thrown away,
    and not counted.
    """
    width = max(len(prompt) for prompt in prompts)
    tokens = torch.full((len(prompts), width), settings.pad_token_id, device=model.device)
    seen = torch.zeros_like(tokens)
    for row, prompt in enumerate(prompts):
        tokens[row, width - len(prompt) :] = prompt
        seen[row, width - len(prompt) :] = 1
    written = model.generate(tokens, attention_mask=seen, generation_config=settings)
    return answer_lengths(written[:, width:], settings.eos_token_id)


def answer_lengths(written: Tensor, end_token_id: int) -> list[int]:
    """Tokens of each row up to its first end token, which counts."""
    ended = (written == end_token_id).cumsum(dim=1) - (written == end_token_id).long()
    return (ended == 0).sum(dim=1).tolist()


def continuous_settings(longest: int, sequences: int, device: torch.device) -> dict[str, Any]:
    """A cache in which `sequences` of `longest` tokens have room at the same time."""
    return {
        "page_size": PAGE,
        "num_blocks": -(-longest // PAGE) * sequences,
        "max_batch_tokens": 4096,
        "use_cuda_graph": None if device.type == "cuda" else False,
    }


def generate_continuously(
    model: PreTrainedModel, prompts: Sequence[Tensor], settings: GenerationConfig
) -> list[int]:
    """Lengths of the answers under continuous batching.

    Raises:
        RuntimeError: a request failed.
    """
    longest = max(len(prompt) for prompt in prompts) + settings.max_new_tokens
    sequences = len(prompts) * settings.num_return_sequences
    outputs = model.generate_batch(
        [prompt.tolist() for prompt in prompts],
        generation_config=settings,
        continuous_batching_config=ContinuousBatchingConfig(
            **continuous_settings(longest, sequences, model.device)
        ),
        warmup=model.device.type == "cuda",
    )
    failed = [output.error for output in outputs.values() if output.error]
    if failed:
        raise RuntimeError(failed[0])
    return [len(output.generated_tokens) for output in outputs.values()]
