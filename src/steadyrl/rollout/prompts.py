"""Encoding of prompts from user code, which a chat template may reject."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from steadyrl.base.errors import UserError
from steadyrl.policies.tokenizers import encode_prompts
from steadyrl.records.message import Message


def encode_each(
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Sequence[Message]],
    tools: Sequence[Sequence[dict[str, Any]]],
) -> list[Int[Tensor, " _P"] | UserError]:
    """Results of `encode_prompts`, with the error instead of each rejected conversation."""
    try:
        return list(encode_prompts(tokenizer, conversations, tools))
    except UserError as error:
        if len(conversations) == 1:
            return [error]
    return [
        encoded
        for conversation, schemas in zip(conversations, tools, strict=True)
        for encoded in encode_each(tokenizer, [conversation], [schemas])
    ]
