"""Tokens that vLLM reports while it samples."""

import asyncio
from collections.abc import Iterator

import pytest
import torch

from steadyrl.base.concurrency import concurrently
from steadyrl.engines.driver import drive
from steadyrl.engines.protocol import SampledToken, SupportsTokenStreams
from steadyrl.engines.served_model import weights_of
from steadyrl.engines.vllm.engine import VllmEngine
from steadyrl.policies.policy import Policy
from steadyrl.records.completion import Completion, FinishReason
from tests.driving import generate
from tests.engines.vllm.models import qwen3_moe
from tests.engines.vllm.serving import FLOAT32, requests, served

pytest.importorskip("vllm")
pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Policy, VllmEngine]]:
    policy = qwen3_moe()
    with served(policy) as engine:
        yield policy, engine


def test_the_reported_tokens_are_those_of_the_answers(pair: tuple[Policy, VllmEngine]) -> None:
    policy, engine = pair
    asked = requests(policy)
    heard: list[list[SampledToken]] = [[] for _ in asked]

    answers = drive(
        concurrently(
            engine.stream(request, each.append) for request, each in zip(asked, heard, strict=True)
        )
    )

    assert isinstance(engine, SupportsTokenStreams)
    expected = generate(engine, asked)
    for group, others, tokens in zip(answers, expected, heard, strict=True):
        for sample, (completion, other) in enumerate(zip(group, others, strict=True)):
            own = [token for token in tokens if token.sample == sample]
            count = len(completion.token_ids) - (completion.finish_reason is FinishReason.STOP)
            assert torch.equal(completion.token_ids, other.token_ids)
            assert [token.position for token in own] == list(range(count))
            assert [token.token_id for token in own] == completion.token_ids[:count].tolist()
            logprobs = torch.tensor([token.logprob for token in own])
            assert (logprobs - completion.logprobs[:count]).abs().max() < FLOAT32


def test_a_sync_in_mid_stream_reports_the_answer_from_its_first_token(
    pair: tuple[Policy, VllmEngine],
) -> None:
    policy, engine = pair
    (request,) = requests(policy, (5,), answers=1)
    heard: list[SampledToken] = []

    async def play() -> list[Completion]:
        enough = asyncio.Event()

        def hear(token: SampledToken) -> None:
            heard.append(token)
            if len(heard) == 3:
                enough.set()

        async def sync() -> list[Completion]:
            await enough.wait()
            await engine.sync(weights_of(policy, version=1))
            return []

        answers, _ = await concurrently([engine.stream(request, hear), sync()])
        return answers

    (completion,) = drive(play())

    positions = [token.position for token in heard]
    again = positions.index(0, 1)
    count = len(completion.token_ids) - (completion.finish_reason is FinishReason.STOP)
    assert again >= 3
    assert positions == [*range(again), *range(count)]
    assert [token.token_id for token in heard[again:]] == completion.token_ids[:count].tolist()
    assert completion.policy_version == 1
