"""Tokens by which a prompt continues sampled tokens.

    sampled tokens                           continuation
    <user> question <assistant> reply <end>  <user> next question <assistant>

The reply is never tokenized again: another tokenization of the same text, or a template that
renders it differently, would change tokens that were already sampled.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from steadyrl.base.errors import UserError
from steadyrl.policies.template_checks import check_template
from steadyrl.policies.tokenizers import prompt_text
from steadyrl.records.message import Message


def continue_tokens(
    tokenizer: PreTrainedTokenizerBase,
    tokens: Int[Tensor, " T"],
    before: Sequence[Message],
    after: Sequence[Message],
    tools: Sequence[dict[str, Any]] = (),
) -> Int[Tensor, " P"]:
    """`tokens`, followed by what the chat template writes after the model's turn that ends them.

    An end token that the model has sampled is not repeated. Control tokens in messages are split as
    in `encode_prompts`.

    Args:
        tokens: A prompt and the sampled reply.
        before: Messages of that prompt.
        after: Messages after the reply.

    Raises:
        UserError: the template rejects the conversation or drops content of it.
    """
    mark = "qzreplyzq"
    while any(mark in message.content for message in (*before, *after)):
        mark += "qz"
    conversation = [*before, Message(role="assistant", content=mark), *after]
    check_template(tokenizer, [conversation], [tools])
    _, found, rest = prompt_text(tokenizer, conversation, tools).rpartition(mark)
    if not found:
        raise UserError(
            f"The chat template of the tokenizer {tokenizer.name_or_path!r} drops the model's "
            "turns. Use another checkpoint, or fix tokenizer.chat_template."
        )
    following = torch.tensor(
        tokenizer(rest, add_special_tokens=False)["input_ids"], dtype=torch.long
    )
    if len(following) and len(tokens) and following[0] == tokens[-1]:
        following = following[1:]
    return torch.cat([tokens, following])
