"""Character tokenizers for the small presets, and prompts as tokens for every tokenizer."""

import re
import string
from collections.abc import Sequence, Set
from functools import partial
from typing import Any

import torch
from jaxtyping import Int
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from steadyrl.base.errors import UserError
from steadyrl.base.text import map_texts, well_formed
from steadyrl.policies.chat_templates import render
from steadyrl.policies.template_checks import prove
from steadyrl.records.message import Message

PAD, END = "<|pad|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
PRINTABLE = string.digits + string.ascii_letters + string.punctuation + " \n\t"

_TAGS = re.compile(r"<[^<>\s]{1,40}>|\[/?[A-Z_]{2,40}\]")

_REPLY = "2468"
"""No template writes it of its own accord."""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def character_tokenizer(alphabet: str = PRINTABLE) -> PreTrainedTokenizerFast:
    """A tokenizer with one token per character of `alphabet`, roles, padding and an end token.

    It is an ordinary Transformers tokenizer with a chat template, so checkpoints that hold it load
    with `AutoTokenizer`.
    """
    tokens = [PAD, END, *ROLES, *sorted(set(alphabet))]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=PAD))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=list(ROLES),
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Sequence[Message]],
    tools: Sequence[Sequence[dict[str, Any]]] | None = None,
) -> list[Int[Tensor, " _P"]]:
    """For each conversation, the tokens after which the model's next turn begins.

    What a message or a tool's schema says cannot open or close a turn: a space parts the first
    character of a control token from its rest.

    Args:
        tools: Schemas of each conversation's tools, for the template to show; None for none.

    Raises:
        UserError: the tokenizer has no chat template, it refuses a conversation, leaves out what
            one says, or does not open the model's turn.
    """
    if not conversations:
        return []
    control = control_tokens(tokenizer)
    prove(tokenizer, conversations, tools)
    texts = [
        render(
            tokenizer,
            [{"role": m.role, "content": _without(control, m.content)} for m in conversation],
            map_texts(list(schemas), partial(_without, control)) or None,
            add_generation_prompt=True,
        )
        for conversation, schemas in zip(
            conversations, tools or [()] * len(conversations), strict=True
        )
    ]
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return [torch.tensor(row, dtype=torch.long) for row in ids]


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The texts that this tokenizer reads as special tokens, in the order of their ids."""
    added = tokenizer.added_tokens_decoder
    return [added[number].content for number in sorted(added) if added[number].special]


def neutralize(text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """`text` of unknown origin, in which nothing means anything to the tokenizer or its template.

    `encode_prompts` keeps every message from opening a turn. This also takes apart what a message
    of the model itself may hold: tokens such as `<tool_call>` that the tokenizer knows without
    calling them special, and tags that the chat template writes. A space parts their first
    character from the rest. It is made `well_formed` first.
    Turns that a template marks by plain words, such as "User:", are not seen.
    """
    known = {token.content.strip() for token in tokenizer.added_tokens_decoder.values()}
    marks = sorted(known | set(_TAGS.findall(str(tokenizer.chat_template))), key=len, reverse=True)
    marks = [mark for mark in marks if len(mark) > 1]
    text = well_formed(text)
    while any(mark in text for mark in marks):  # parting one may leave the next
        text = _without(marks, text)
    return text


def _without(control: Sequence[str], text: str) -> str:
    for token in control:
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def end_token_ids(
    tokenizer: PreTrainedTokenizerBase, model_eos: int | list[int] | None
) -> set[int]:
    """Every token that ends a turn: the tokenizer's, the model's, and the chat template's.

    A model learns to end a turn as its template closes it, whatever the configuration says.

    Args:
        model_eos: End tokens of the model's generation config.

    Raises:
        UserError: there is none.
    """
    ends = {*configured_ends(tokenizer, model_eos), template_end(tokenizer)} - {None}
    if not ends:
        raise UserError("Neither tokenizer nor model has an end token. Set tokenizer.eos_token.")
    return {int(end) for end in ends if end is not None}


def configured_ends(
    tokenizer: PreTrainedTokenizerBase, model_eos: int | list[int] | None
) -> set[int]:
    """The end tokens that tokenizer and generation config name."""
    listed = model_eos if isinstance(model_eos, list) else [model_eos]
    return {int(token) for token in [tokenizer.eos_token_id, *listed] if token is not None}


def template_end(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The control token by which the chat template closes a turn of the model.

    ChatML closes it by <|im_end|>, Gemma by <end_of_turn>, Phi-3 by <|end|>, whatever end token the
    tokenizer has. GLM writes nothing but the <|user|> of the next turn: a model that writes it has
    ended its own. None where there is no template, it refuses a question with its answer, or it
    closes turns by plain text.
    """
    asked, reply = {"role": "user", "content": "1+1="}, {"role": "assistant", "content": _REPLY}
    for conversation in ([asked, reply], [asked, reply, {"role": "user", "content": "1+2="}]):
        after = _closing_text(tokenizer, conversation)
        written = tokenizer(after, add_special_tokens=False)["input_ids"]
        known = {tokenizer.eos_token_id, *tokenizer.added_tokens_decoder} - {tokenizer.bos_token_id}
        control = [token for token in written if token in known and _is_mark(tokenizer, token)]
        if control:
            return int(control[0])
    return None


def _closing_text(tokenizer: PreTrainedTokenizerBase, conversation: list[dict[str, str]]) -> str:
    """What the template writes after the model's reply; empty if it does not show that."""
    if tokenizer.chat_template is None:
        return ""
    try:
        before, _, after = render(tokenizer, conversation).rpartition(_REPLY)
    except UserError:
        return ""
    return after if before else ""


def _is_mark(tokenizer: PreTrainedTokenizerBase, token: int) -> bool:
    """Whether a token is more than white space, which some tokenizers add tokens for."""
    return bool(tokenizer.decode([token]).strip())


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that rows are filled up with.

    No position that is read sees it, so any token will do where the tokenizer names none, as one
    whose end token stands in the model's generation config alone.
    """
    named = (tokenizer.pad_token_id, tokenizer.eos_token_id)
    return next((int(token) for token in named if token is not None), 0)


def closing_id(tokenizer: PreTrainedTokenizerBase, ends: Set[int]) -> int:
    """The token that closes a turn which no engine has written.

    The one by which the chat template closes it, so that the next prompt goes on where the turn
    ended. Else it is the tokenizer's, or one of `ends` where it has none.

    Args:
        ends: Every token that ends a turn, as `end_token_ids` gives them.
    """
    own = min(ends) if tokenizer.eos_token_id is None else int(tokenizer.eos_token_id)
    closing = template_end(tokenizer)
    return own if closing is None else closing
