"""Engines that end at a stop string, against engines that sample to the end."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steadyrl.engines.driver import drive
from steadyrl.engines.local import LocalEngine
from steadyrl.engines.protocol import Request, Sampling
from steadyrl.gateway.answers import Answer, make_answer
from steadyrl.gateway.conversation import Conversation
from steadyrl.gateway.gateway import Gateway
from steadyrl.gateway.requests import ChatRequest
from steadyrl.gateway.sessions import SessionRules
from steadyrl.gateway.stop_strings import StopStrings
from steadyrl.policies.policy import Policy
from steadyrl.records.completion import Completion, FinishReason
from tests.gateway.serving import MODEL, local_engine
from tests.gateway.test_live_answers import (
    FRAGMENTS,
    STOPS,
    TOKENIZERS,
    completion_of,
    make_tokenizer,
    tokens_of,
)


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=150, deadline=None)
@given(
    fragments=st.lists(st.sampled_from(FRAGMENTS), max_size=8),
    stops=st.lists(st.sampled_from(STOPS), min_size=1, max_size=3),
    ends=st.booleans(),
    stray=st.lists(st.integers(0, 300), max_size=3),
    restart=st.integers(0, 5),
)
def test_an_answer_that_ends_early_is_the_one_that_is_cut_later(
    name: str, fragments: list[str], stops: list[str], ends: bool, stray: list[int], restart: int
) -> None:
    tokenizer = make_tokenizer(name)
    ids = [*tokenizer("".join(fragments), add_special_tokens=False).input_ids, *stray]
    whole = completion_of(ids, ends=ends, tokenizer=tokenizer)
    tokens = tokens_of(whole)
    found = StopStrings(tokenizer, stops)
    for token in tokens[:restart]:
        found.end_with(token)

    count = next((place for place, token in enumerate(tokens, 1) if found.end_with(token)), None)

    cut = make_answer(whole, tokenizer, stops=stops)
    if count is None:
        assert not any(stop in cut.text for stop in stops)
        return
    early = make_answer(first(whole, count), tokenizer, stops=stops)
    assert cut.finish_reason == early.finish_reason == "stop"
    assert early.text == cut.text
    assert early.completion.token_ids.tolist() == cut.completion.token_ids.tolist()
    assert not any(stop in early.text for stop in stops)


def first(completion: Completion, count: int) -> Completion:
    """What an engine returns that ends after `count` tokens."""
    return replace(completion.first(count), finish_reason=FinishReason.LENGTH)


class Whole:
    """The engine, without a stream of tokens."""

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine
        self.capabilities, self.policy_version = engine.capabilities, engine.policy_version

    async def generate(self, request: Request) -> list[Completion]:
        return await self._engine.generate(request)


def asked(engine: Any, policy: Policy, stops: Sequence[str], sampling: Sampling) -> tuple[Any, int]:
    """Answers to a request, and the number of tokens that were sampled for them."""
    gateway = Gateway(
        engine=engine,
        tokenizer=policy.tokenizer,
        vocabulary_size=len(policy.tokenizer),
        model=MODEL,
        rules=SessionRules(sampling=sampling),
    )
    request = ChatRequest(
        model=MODEL, messages=[{"role": "user", "content": "hi"}], n=8, seed=3, stop=list(stops)
    )
    answers: list[Answer] = drive(gateway.converse(None, request, Conversation.of(request)))
    return answers, gateway.counts["completion_tokens"]


@pytest.mark.parametrize("truncation", [{}, {"top_k": 20}])
@pytest.mark.parametrize("kind", ["dense_policy", "moe_policy"])
def test_the_local_engine_ends_at_a_stop_string_and_records_the_same(
    kind: str, truncation: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    policy: Policy = request.getfixturevalue(kind)
    sampling = Sampling(max_new_tokens=100, **truncation)
    stops = ["e", "7", "ab"]

    answers, count = asked(local_engine(policy), policy, stops, sampling)
    others, most = asked(Whole(local_engine(policy)), policy, stops, sampling)

    assert [answer.finish_reason for answer in answers].count("stop") > 2
    assert count < most
    assert count == sum(len(answer.completion.token_ids) for answer in answers)
    for answer, other in zip(answers, others, strict=True):
        ours, theirs = answer.completion, other.completion
        assert (answer.text, answer.finish_reason) == (other.text, other.finish_reason)
        assert ours.finish_reason is theirs.finish_reason
        assert torch.equal(ours.token_ids, theirs.token_ids)
        assert torch.allclose(ours.logprobs, theirs.logprobs, atol=1e-5)
        assert (ours.support is None) == (theirs.support is None)
        if ours.support is not None and theirs.support is not None:
            assert torch.equal(ours.support.ids, theirs.support.ids)
        if ours.routing is not None and theirs.routing is not None:
            assert torch.equal(ours.routing.known, theirs.routing.known)
            assert ours.routing.fed_tokens == theirs.routing.fed_tokens
            (mine,), (its,) = ours.routing.experts, theirs.routing.experts
            assert torch.equal(torch.cat(mine), torch.cat(its))
