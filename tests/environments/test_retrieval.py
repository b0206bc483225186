import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyrl.environments.retrieval import escape_control_tokens
from steadyrl.policies.tokenizers import END, ROLES, character_tokenizer

TOKENIZER = character_tokenizer()
TURNS = set(TOKENIZER.convert_tokens_to_ids([END, *ROLES]))
CONTROL_TOKENS = [
    *TOKENIZER.all_special_tokens,
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|start_header_id|>",
    "<|eot_id|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<s>",
    "</s>",
    "<_end>",
    "<\uff5cUser\uff5c>",
    "[INST]",
    "[/INST]",
    "[TOOL_RESULTS]",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
]


@given(pieces=st.lists(st.sampled_from([*CONTROL_TOKENS, "<", "|", "a", "[", "]", ">", "/", " "])))
def test_no_control_token_survives_quoting(pieces: list[str]):
    text = escape_control_tokens("".join(pieces))
    assert not [token for token in CONTROL_TOKENS if token in text]
    assert TURNS.isdisjoint(TOKENIZER(text)["input_ids"])
    assert text.replace(" ", "") == "".join(pieces).replace(" ", "")
    assert escape_control_tokens(text) == text


@pytest.mark.parametrize(
    "text", ["Rome fell in 476.", "2 < 3 <= 4", "[1] [citation needed] [USA 1999]", "a <- b -> c"]
)
def test_ordinary_text_is_quoted_as_it_is(text: str):
    assert escape_control_tokens(text) == text


def test_half_surrogates_become_question_marks():
    assert escape_control_tokens("a\ud83db \U0001f600") == "a?b \U0001f600"
