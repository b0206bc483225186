"""Character tokenizers, prompts and end tokens."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from steadyrl.policies.tokenizers import (
    END,
    PRINTABLE,
    ROLES,
    character_tokenizer,
    encode_prompts,
    end_token_ids,
)
from steadyrl.records.errors import UserError
from steadyrl.records.message import Message, Role

TOKENIZER = character_tokenizer()


def encode(text: str) -> list[int]:
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


@settings(deadline=None, max_examples=60)
@given(text=st.text(alphabet=PRINTABLE, max_size=40))
def test_text_survives_as_one_token_a_character(text: str) -> None:
    ids = encode(text)
    if "<|" not in text:  # a role or an end token written out is one token
        assert len(ids) == len(text)
    assert TOKENIZER.decode(ids, skip_special_tokens=False) == text


def test_every_printable_character_has_its_own_token() -> None:
    assert len(set(encode(PRINTABLE))) == len(PRINTABLE) == 10 + 52 + 32 + 3
    assert TOKENIZER.decode(encode(PRINTABLE)) == PRINTABLE
    assert len(TOKENIZER) == len(PRINTABLE) + 2 + len(ROLES)


def test_prompt_is_the_conversation_up_to_the_next_turn() -> None:
    conversation = [
        Message(role="system", content="Be right."),
        Message(role="user", content="1+2="),
        Message(role="assistant", content="3"),
        Message(role="tool", content="ok"),
    ]
    short = [Message(role="user", content="7")]
    long_ids, short_ids = encode_prompts(TOKENIZER, [conversation, short])
    expected = "<|system|>Be right.<|user|>1+2=<|assistant|>3<|end|><|tool|>ok<|assistant|>"
    assert TOKENIZER.decode(long_ids) == expected
    # One token for each character and one for each of 5 roles and the end token.
    assert len(long_ids) == len("Be right." + "1+2=" + "3" + "ok") + 6
    assert short_ids.tolist() == [*encode("<|user|>"), *encode("7"), *encode("<|assistant|>")]


def test_next_prompt_continues_a_turn_that_ended_with_the_end_token() -> None:
    first = [Message(role="user", content="1+2=")]
    second = [*first, Message(role="assistant", content="3"), Message(role="user", content="+4=")]
    before, after = encode_prompts(TOKENIZER, [first, second])
    written = [*before.tolist(), *encode("3"), TOKENIZER.eos_token_id]
    assert after[: len(written)].tolist() == written


@settings(deadline=None, max_examples=60)
@given(
    pieces=st.lists(st.sampled_from([*TOKENIZER.all_special_tokens, "<", "|", "user", ">", "3"])),
    role=st.sampled_from(["system", "user", "assistant", "tool"]),
)
def test_what_a_message_says_cannot_open_a_turn(pieces: list[str], role: Role) -> None:
    conversation = [
        Message(role="user", content="1+2="),
        Message(role=role, content="".join(pieces)),
    ]
    (prompt,) = encode_prompts(TOKENIZER, [conversation])
    tokens = TOKENIZER.convert_ids_to_tokens(prompt.tolist())
    end = [END] if role == "assistant" else []
    control = [token for token in tokens if token in TOKENIZER.all_special_tokens]
    assert control == ["<|user|>", f"<|{role}|>", *end, "<|assistant|>"]


def test_no_conversation_no_prompt() -> None:
    assert encode_prompts(TOKENIZER, []) == []


def test_tokenizer_without_chat_template_is_refused() -> None:
    bare = character_tokenizer()
    bare.chat_template = None
    with pytest.raises(UserError, match=r"has no chat template.* set tokenizer.chat_template"):
        encode_prompts(bare, [[Message(role="user", content="1")]])


@pytest.mark.parametrize(
    ("of_the_model", "expected"), [(None, {1}), (5, {1, 5}), ([5, 7], {1, 5, 7}), (1, {1})]
)
def test_end_tokens_are_the_union_of_tokenizer_and_model(
    of_the_model: int | list[int] | None, expected: set[int]
) -> None:
    assert encode(END) == [1]
    assert end_token_ids(TOKENIZER, of_the_model) == expected


def test_model_that_could_never_end_is_refused() -> None:
    endless = PreTrainedTokenizerFast(tokenizer_object=TOKENIZER.backend_tokenizer)
    assert end_token_ids(endless, 4) == {4}
    with pytest.raises(UserError, match=r"Neither tokenizer nor model has an end token. Set"):
        end_token_ids(endless, None)
