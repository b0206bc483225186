"""Character tokenizers for the small presets; prompts and end tokens of any tokenizer."""

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
from steadyrl.policies.template_checks import check_template
from steadyrl.records.message import Message

PAD, END = "<|pad|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
PRINTABLE = string.digits + string.ascii_letters + string.punctuation + " \n\t"

_TAGS = re.compile(r"<[^<>\s]{1,40}>|\[/?[A-Z_]{2,40}\]")

_REPLY = "2468"
"""A reply that no template contains itself."""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def character_tokenizer(alphabet: str = PRINTABLE) -> PreTrainedTokenizerFast:
    """A tokenizer with one token per character of `alphabet`, role tokens, padding and end token.

    It is a regular Transformers tokenizer with a chat template, so its checkpoints load with
    `AutoTokenizer`.
    """
    tokens = [PAD, END, *ROLES, *sorted(set(alphabet))]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=PAD))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return with_chat_template(tokenizer)


def with_chat_template(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """A tokenizer of Transformers with the special tokens and the chat template of this package.

    Args:
        tokenizer: Its vocabulary has these special tokens.
    """
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
    """Prompt tokens of each conversation, up to the start of the model's next turn.

    The content of messages and tool schemas cannot open or close a turn: control tokens in it are
    split by a space after their first character.

    Args:
        tools: Schemas of each conversation's tools for the template; None: no tools.

    Raises:
        UserError: the tokenizer has no chat template, or the template rejects a conversation, drops
            content, or does not open the model's turn.
    """
    if not conversations:
        return []
    check_template(tokenizer, conversations, tools)
    schemas = tools or [()] * len(conversations)
    texts = [
        prompt_text(tokenizer, conversation, shown)
        for conversation, shown in zip(conversations, schemas, strict=True)
    ]
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return [torch.tensor(row, dtype=torch.long) for row in ids]


def prompt_text(
    tokenizer: PreTrainedTokenizerBase,
    conversation: Sequence[Message],
    tools: Sequence[dict[str, Any]] = (),
) -> str:
    """The conversation up to the start of the model's next turn, with control tokens split.

    Raises:
        UserError: there is no chat template, or it rejects the conversation.
    """
    control = control_tokens(tokenizer)
    return render(
        tokenizer,
        [{"role": m.role, "content": _without(control, m.content)} for m in conversation],
        map_texts(list(tools), partial(_without, control)) or None,
        add_generation_prompt=True,
    )


def plain_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> Int[Tensor, " T"]:
    """Tokens of a text without a chat format, in which control tokens are split."""
    plain = _without(control_tokens(tokenizer), well_formed(text))
    ids = tokenizer(plain, add_special_tokens=False)["input_ids"]
    return torch.tensor(ids, dtype=torch.long)


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Texts of the tokenizer's special tokens, in the order of their ids."""
    added = tokenizer.added_tokens_decoder
    return [added[number].content for number in sorted(added) if added[number].special]


def neutralize(text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """Neutralizes untrusted `text`, so that it contains no tokens or tags of the chat format.

    `encode_prompts` already prevents messages from opening a turn. This function also splits added
    tokens that are not special, such as `<tool_call>`, and tags of the chat template, by a space
    after their first character. The text is made `well_formed` first. Turns that a template marks
    by plain words, such as "User:", are not detected.
    """
    known = {token.content.strip() for token in tokenizer.added_tokens_decoder.values()}
    marks = sorted(known | set(_TAGS.findall(str(tokenizer.chat_template))), key=len, reverse=True)
    marks = [mark for mark in marks if len(mark) > 1]
    text = well_formed(text)
    while any(mark in text for mark in marks):  # splitting a mark may create another
        text = _without(marks, text)
    return text


def _without(control: Sequence[str], text: str) -> str:
    for token in control:
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def end_token_ids(
    tokenizer: PreTrainedTokenizerBase, model_eos: int | list[int] | None
) -> set[int]:
    """All tokens that end a turn: of the tokenizer, the model, and the chat template.

    A model is trained to end a turn as its template does, whatever its configuration says.

    Args:
        model_eos: End tokens of the model's generation config.

    Raises:
        UserError: there are no end tokens.
    """
    ends = {*configured_ends(tokenizer, model_eos), template_end(tokenizer)} - {None}
    if not ends:
        raise UserError("Neither tokenizer nor model has an end token. Set tokenizer.eos_token.")
    return {int(end) for end in ends if end is not None}


def configured_ends(
    tokenizer: PreTrainedTokenizerBase, model_eos: int | list[int] | None
) -> set[int]:
    """End tokens of tokenizer and generation config."""
    listed = model_eos if isinstance(model_eos, list) else [model_eos]
    return {int(token) for token in [tokenizer.eos_token_id, *listed] if token is not None}


def template_end(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The control token by which the chat template closes the model's turn.

    ChatML uses <|im_end|>, Gemma <end_of_turn> and Phi-3 <|end|>, whatever end token the tokenizer
    has. GLM only writes the <|user|> of the next turn, so that token ends the model's turn. None:
    there is no template, it rejects a question with an answer, or it closes turns by plain text.
    """
    question, reply = {"role": "user", "content": "1+1="}, {"role": "assistant", "content": _REPLY}
    for conversation in ([question, reply], [question, reply, {"role": "user", "content": "1+2="}]):
        after = _closing_text(tokenizer, conversation)
        written = tokenizer(after, add_special_tokens=False)["input_ids"]
        known = {tokenizer.eos_token_id, *tokenizer.added_tokens_decoder} - {tokenizer.bos_token_id}
        control = [token for token in written if token in known and _is_mark(tokenizer, token)]
        if control:
            return int(control[0])
    return None


def _closing_text(tokenizer: PreTrainedTokenizerBase, conversation: list[dict[str, str]]) -> str:
    """Text of the template after the model's reply; empty if it does not render the reply."""
    if tokenizer.chat_template is None:
        return ""
    try:
        before, _, after = render(tokenizer, conversation).rpartition(_REPLY)
    except UserError:
        return ""
    return after if before else ""


def _is_mark(tokenizer: PreTrainedTokenizerBase, token: int) -> bool:
    """Whether a token is not white space; some tokenizers have added tokens for white space."""
    return bool(tokenizer.decode([token]).strip())


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Token id for padding.

    Padding is never attended to, so any token works if the tokenizer has neither a padding nor an
    end token.
    """
    named = (tokenizer.pad_token_id, tokenizer.eos_token_id)
    return next((int(token) for token in named if token is not None), 0)


def closing_id(tokenizer: PreTrainedTokenizerBase, ends: Set[int]) -> int:
    """The token that closes a turn which was not sampled by an engine.

    This is the closing token of the chat template, so that the next prompt continues the turn;
    otherwise the tokenizer's end token, or the smallest of `ends`.

    Args:
        ends: All tokens that end a turn, from `end_token_ids`.
    """
    own = min(ends) if tokenizer.eos_token_id is None else int(tokenizer.eos_token_id)
    closing = template_end(tokenizer)
    return own if closing is None else closing


def text_tokens(tokenizer: PreTrainedTokenizerBase, vocabulary_size: int) -> list[int]:
    """Tokens that a model of this vocabulary knows and that are no control tokens."""
    special = set(tokenizer.all_special_ids)
    return [token for token in range(min(len(tokenizer), vocabulary_size)) if token not in special]
