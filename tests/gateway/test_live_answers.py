"""Pieces of answers while they are sampled."""

import asyncio
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from benchmarks.trained_tokenizers import TOKENIZERS
from hypothesis import given, settings
from hypothesis import strategies as st

from steadyrl.engines.protocol import SampledToken
from steadyrl.gateway.answers import Answer, make_answer, scored_tokens
from steadyrl.gateway.errors import ApiError
from steadyrl.gateway.live_answers import LiveAnswers, Piece
from steadyrl.records.candidates import Candidates
from steadyrl.records.completion import Completion, FinishReason
from steadyrl.records.support import Support
from steadyrl.records.tool_calls import ToolSettings

make_tokenizer = cache(lambda name: TOKENIZERS[name]())

CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 3}}\n</tool_call>'
FRAGMENTS = [
    CALL,
    "<tool_call>",
    "</tool_call>",
    "<tool_",
    '{"name": "add"}',
    '[{"name": "f"}]',
    "{",
    " ",
    "\n\n",
    "🦊",
    "日本",
    "é",
    "a",
    "ab",
    "stop",
]
STOPS = ["ab", "b a", "abab", "stop", "🦊a", "日", "\n\n", "</tool_call>", "op\n"]


def completion_of(ids: list[int], *, ends: bool, tokenizer: Any) -> Completion:
    ids = [*ids, tokenizer.eos_token_id] if ends or not ids else ids
    return Completion(
        prompt_ids=torch.tensor([0]),
        token_ids=torch.tensor(ids),
        logprobs=-torch.arange(1.0, len(ids) + 1),
        finish_reason=FinishReason.STOP if ends else FinishReason.LENGTH,
        policy_version=0,
    )


def played(
    live: LiveAnswers, answers: list[Answer], steps: list[list[SampledToken]]
) -> list[Piece]:
    """The pieces and the rest, with an engine that reports `steps`."""
    found: list[Piece] = []

    async def answering() -> list[Answer]:
        for step in steps:
            for token in step:
                live.listen(token)
            await asyncio.sleep(0)
        return answers

    async def play() -> None:
        async for pieces in live.pieces(asyncio.ensure_future(answering())):
            found.extend(pieces)

    asyncio.run(play())
    live.check(answers)
    return [*found, *live.rest(answers)]


def tokens_of(completion: Completion, sample: int = 0) -> list[SampledToken]:
    """What an engine reports of a completion."""
    count = len(completion.token_ids) - (completion.finish_reason is FinishReason.STOP)
    pairs = zip(completion.token_ids.tolist(), completion.logprobs.tolist(), strict=True)
    return [
        SampledToken(sample=sample, position=place, token_id=token, logprob=logprob)
        for place, (token, logprob) in enumerate(pairs)
    ][:count]


TOOLS = st.sampled_from([None, ToolSettings(), ToolSettings(calls="json")])


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=150, deadline=None)
@given(
    fragments=st.lists(st.sampled_from(FRAGMENTS), max_size=8),
    stops=st.lists(st.sampled_from(STOPS), max_size=3),
    tools=TOOLS,
    width=st.integers(1, 4),
    ends=st.booleans(),
    stray=st.lists(st.integers(0, 300), max_size=3),
)
def test_the_pieces_of_an_answer_add_up_to_it(
    name: str,
    fragments: list[str],
    stops: list[str],
    tools: ToolSettings | None,
    width: int,
    ends: bool,
    stray: list[int],
) -> None:
    tokenizer = make_tokenizer(name)
    ids = [*tokenizer("".join(fragments), add_special_tokens=False).input_ids, *stray]
    completion = completion_of(ids, ends=ends, tokenizer=tokenizer)
    answer = make_answer(completion, tokenizer, stops=stops, tools=tools)
    tokens = tokens_of(completion)
    steps = [tokens[place : place + width] for place in range(0, len(tokens), width)]
    live = LiveAnswers(tokenizer, 1, stops=stops, tools=tools)

    found = played(live, [answer], steps)

    assert "".join(piece.text for piece in found) == answer.reply.text
    assert [pair for piece in found for pair in piece.scored] == scored_tokens(answer)
    assert all(piece.text for piece in found[:-1])


def test_an_answer_cut_at_a_stop_string_keeps_what_belongs_to_its_tokens() -> None:
    tokenizer = make_tokenizer("byte BPE")
    ids = tokenizer("one two three", add_special_tokens=False).input_ids
    whole = completion_of(ids, ends=False, tokenizer=tokenizer)
    places = torch.arange(len(ids))
    whole = replace(
        whole,
        versions=places,
        support=Support.of([torch.tensor([place]) for place in places.tolist()]),
        candidates=Candidates(ids=places[:, None], logprobs=-places[:, None].float()),
    )
    cut = make_answer(whole, tokenizer, stops=["two"]).completion
    kept = places[: len(cut.token_ids)]
    assert 0 < len(kept) < len(ids)
    assert torch.equal(cut.versions, kept)
    assert torch.equal(cut.support.ids, kept)
    assert torch.equal(cut.candidates.ids[:, 0], kept)


def test_text_that_nothing_can_change_is_not_held_back() -> None:
    tokenizer = make_tokenizer("byte BPE")
    ids = tokenizer("one two three", add_special_tokens=False).input_ids
    completion = completion_of(ids, ends=True, tokenizer=tokenizer)
    answer = make_answer(completion, tokenizer, tools=ToolSettings())
    live = LiveAnswers(tokenizer, 1, stops=["four"], tools=ToolSettings())

    found = played(live, [answer], [[token] for token in tokens_of(completion)])

    assert found[-1].text == ""
    assert len(found) > 3


def test_a_call_is_never_a_piece() -> None:
    tokenizer = make_tokenizer("byte BPE")
    text = f"First. {CALL}\n"
    ids = tokenizer(text, add_special_tokens=False).input_ids
    completion = completion_of(ids, ends=True, tokenizer=tokenizer)
    answer = make_answer(completion, tokenizer, tools=ToolSettings())
    live = LiveAnswers(tokenizer, 1, tools=ToolSettings())

    found = played(live, [answer], [[token] for token in tokens_of(completion)])

    assert "".join(piece.text for piece in found) == answer.reply.text == "First."
    assert len(answer.reply.calls) == 1


def test_several_answers_are_kept_apart() -> None:
    tokenizer = make_tokenizer("unigram")
    written = [tokenizer(text, add_special_tokens=False).input_ids for text in ("one", "two two")]
    completions = [completion_of(ids, ends=True, tokenizer=tokenizer) for ids in written]
    answers = [make_answer(each, tokenizer) for each in completions]
    tokens = [tokens_of(each, sample) for sample, each in enumerate(completions)]
    mixed = sorted((token for each in tokens for token in each), key=lambda t: t.position)

    found = played(LiveAnswers(tokenizer, 2), answers, [[token] for token in mixed])

    for index, answer in enumerate(answers):
        assert "".join(p.text for p in found if p.index == index) == answer.reply.text


def test_an_answer_that_the_engine_samples_again_goes_on_if_it_is_the_same() -> None:
    tokenizer = make_tokenizer("byte BPE")
    ids = tokenizer("one two three", add_special_tokens=False).input_ids
    completion = completion_of(ids, ends=True, tokenizer=tokenizer)
    answer = make_answer(completion, tokenizer)
    tokens = tokens_of(completion)

    found = played(LiveAnswers(tokenizer, 1), [answer], [[t] for t in (*tokens[:3], *tokens)])

    assert "".join(piece.text for piece in found) == "one two three"


def test_an_answer_that_the_engine_samples_again_otherwise_is_an_error() -> None:
    tokenizer = make_tokenizer("byte BPE")
    first, second = (
        completion_of(
            tokenizer(text, add_special_tokens=False).input_ids, ends=True, tokenizer=tokenizer
        )
        for text in ("one two", "two one")
    )
    answer = make_answer(second, tokenizer)

    with pytest.raises(ApiError, match="sampled again") as caught:
        played(
            LiveAnswers(tokenizer, 1),
            [answer],
            [[token] for token in (*tokens_of(first), *tokens_of(second))],
        )
    assert caught.value.code == "answer_restarted"
