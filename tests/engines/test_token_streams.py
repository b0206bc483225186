"""Tokens that the engine reports while it samples."""

import asyncio
from collections import defaultdict
from dataclasses import replace

import pytest
import torch

from steadyrl.base.concurrency import concurrently
from steadyrl.engines.cache_memory import cache_size
from steadyrl.engines.driver import drive
from steadyrl.engines.local import LocalEngine
from steadyrl.engines.page_table import PAGE
from steadyrl.engines.protocol import Request, SampledToken, Sampling, SupportsTokenStreams
from steadyrl.policies.attention_masks import AttentionMasks
from steadyrl.records.completion import Completion, FinishReason
from tests.driving import generate
from tests.engines.builders import (
    assert_same_answers,
    engine_model,
    local_engine,
    policy_of,
    reference_engine,
    some_requests,
)


def streamed(
    engine: LocalEngine, requests: list[Request]
) -> tuple[list[list[Completion]], list[list[SampledToken]]]:
    """The answers to `requests` and the tokens that were reported of each."""
    heard: list[list[SampledToken]] = [[] for _ in requests]
    asked = zip(requests, heard, strict=True)
    answers = drive(concurrently(engine.stream(request, each.append) for request, each in asked))
    return answers, heard


def in_text(completion: Completion) -> int:
    """Number of tokens before the end token."""
    return len(completion.token_ids) - (completion.finish_reason is FinishReason.STOP)


@pytest.mark.parametrize("model", ["qwen3", "mixtral"])
def test_the_reported_tokens_are_those_of_the_answers(model: str) -> None:
    policy, sampling = policy_of(model), Sampling(max_new_tokens=8)
    requests = [replace(request, sampling=sampling) for request in some_requests()]
    engine = local_engine(policy)

    answers, heard = streamed(engine, requests)

    assert isinstance(engine, SupportsTokenStreams)
    assert not isinstance(reference_engine(policy), SupportsTokenStreams)
    assert_same_answers(answers, generate(local_engine(policy), requests))
    reasons = {completion.finish_reason for group in answers for completion in group}
    assert len(reasons) == 2
    for group, tokens in zip(answers, heard, strict=True):
        for sample, completion in enumerate(group):
            own = [token for token in tokens if token.sample == sample]
            count = in_text(completion)
            assert [token.position for token in own] == list(range(count))
            assert [token.token_id for token in own] == completion.token_ids[:count].tolist()
            assert [token.logprob for token in own] == completion.logprobs[:count].tolist()


def test_a_sequence_that_begins_again_is_reported_from_its_first_position() -> None:
    policy, greedy = policy_of("qwen3"), Sampling(temperature=0, max_new_tokens=3 * PAGE)
    requests = [
        Request(prompt_ids=torch.arange(3, 3 + n), num_completions=1, seed=n, sampling=greedy)
        for n in range(1, 9)
    ]
    model = engine_model(policy)
    page = cache_size(model, AttentionMasks(model.model).window_of).page
    engine = LocalEngine(model, max_running=8, cache_memory=10 * page)

    answers, heard = streamed(engine, requests)

    repeated = 0
    for (completion,), tokens in zip(answers, heard, strict=True):
        last: dict[int, int] = {}
        for token in tokens:
            repeated += token.position in last
            last[token.position] = token.token_id
        count = in_text(completion)
        assert [last[n] for n in range(count)] == completion.token_ids[:count].tolist()
    assert repeated > 0


def test_a_stream_whose_caller_leaves_reports_nothing_more() -> None:
    policy = policy_of("qwen3")
    policy.model.generation_config.eos_token_id = [1]
    engine = local_engine(policy)
    heard: dict[str, list[SampledToken]] = defaultdict(list)
    sampling = Sampling(max_new_tokens=40)
    prompt = torch.tensor([7, 8, 9])
    request = Request(prompt_ids=prompt, num_completions=1, seed=1, sampling=sampling)

    async def play() -> None:
        def leave(token: SampledToken) -> None:
            heard["left"].append(token)
            gone.cancel()

        gone = asyncio.ensure_future(engine.stream(request, leave))
        await engine.stream(request, heard["stayed"].append)

    drive(play())

    assert [token.position for token in heard["left"]] == [0, 1]  # of the first step
    assert len(heard["stayed"]) > 2
    assert engine._batch is None
