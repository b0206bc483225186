"""The text of tokens that arrive one after another."""

from functools import cache
from typing import Any

import pytest
from benchmarks.trained_tokenizers import TOKENIZERS
from hypothesis import given, settings
from hypothesis import strategies as st

from steadyrl.policies.incremental_text import IncrementalText
from steadyrl.policies.tokenizers import character_tokenizer

make_tokenizer = cache(lambda name: TOKENIZERS[name]() if name else character_tokenizer())


def decode(tokenizer: Any, ids: list[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize("name", ["", *TOKENIZERS])
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_settled_text_is_the_beginning_of_the_whole_text(name: str, data: st.DataObject) -> None:
    """Also for tokens in any order, whose bytes are often no characters."""
    tokenizer = make_tokenizer(name)
    number = st.integers(0, len(tokenizer) - 1)
    written = st.text(max_size=12).map(lambda t: tokenizer(t, add_special_tokens=False).input_ids)
    parts = st.lists(st.one_of(number.map(lambda n: [n]), written), max_size=12)
    ids = [token for part in data.draw(parts) for token in part]
    text = IncrementalText(tokenizer)
    whole = decode(tokenizer, ids)

    for count, token in enumerate(ids, 1):
        text.append(token)
        assert whole.startswith(text.settled)
        held = decode(tokenizer, ids[:count]).removeprefix(text.settled)
        assert (
            not held
            or held.endswith("\ufffd")
            or tokenizer.convert_ids_to_tokens(token).startswith("<0x")
        )
    assert text.token_ids == ids


def test_bytes_of_a_character_wait_for_the_others() -> None:
    tokenizer = make_tokenizer("byte BPE")
    ids = tokenizer("a🦊b", add_special_tokens=False).input_ids
    text, seen = IncrementalText(tokenizer), []

    for token in ids:
        text.append(token)
        seen.append(text.settled)

    assert seen == ["a", "a", "a", "a", "a🦊", "a🦊b"]
    assert text.ends == [1, 2, 2, 2, 2, 3]


def test_a_run_of_byte_tokens_waits_for_its_end() -> None:
    """One invalid byte turns all bytes of its run into replacement characters."""
    tokenizer = make_tokenizer("sentence BPE")
    ids = tokenizer("a🦊", add_special_tokens=False).input_ids
    (stray,) = tokenizer.convert_tokens_to_ids(["<0xFF>"])
    (letter,) = tokenizer("b", add_special_tokens=False).input_ids
    text = IncrementalText(tokenizer)

    for token in (*ids, stray):
        text.append(token)
    assert text.settled == "a"
    text.append(letter)
    assert text.settled == "a\ufffd\ufffd\ufffd\ufffd\ufffdb"
