"""Requests that come while others are being answered."""

import random
from dataclasses import replace
from typing import Any

import pytest
import torch

from steadyrl.base.errors import UserError
from steadyrl.engines.cache_memory import CacheMemory, cache_size
from steadyrl.engines.driver import drive
from steadyrl.engines.local import LocalEngine
from steadyrl.engines.page_table import PAGE
from steadyrl.engines.protocol import Request, Sampling
from steadyrl.engines.slot_cache import Block, SlotCache
from steadyrl.policies.attention_masks import AttentionMasks
from steadyrl.records.completion import Completion
from steadyrl.records.routing import fed_tokens_checksum
from steadyrl.records.weight_source import StateDictWeights
from tests.driving import generate
from tests.engines.builders import (
    EVERY_CACHE,
    assert_same_answers,
    engine_model,
    policy_of,
    reference_engine,
)
from tests.policies.families import VOCABULARY

WAYS = (
    Sampling(max_new_tokens=8),
    Sampling(temperature=0.6, max_new_tokens=3),
    Sampling(top_p=0.7, max_new_tokens=20),
    Sampling(temperature=0, max_new_tokens=1),
    Sampling(top_k=3, max_new_tokens=12),
)


def cache_of(engine: LocalEngine) -> SlotCache:
    assert engine._batch is not None
    return engine._batch._cache


def bytes_of(cache: SlotCache) -> int:
    """Of the keys and values of all layers."""
    held = [
        tensor
        for layer in cache._layers
        for tensor in (layer.held if isinstance(layer, Block) else layer._both) or ()
    ]
    return sum(tensor.nbytes for tensor in held)


def mixed_requests(count: int, seed: int, longest: int = 12) -> list[Request]:
    """Prompts of any length, answered once or several times, drawn in any way."""
    draw = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    return [
        Request(
            prompt_ids=torch.randint(
                6, VOCABULARY, (draw.randint(1, longest),), generator=generator
            ),
            num_completions=draw.choice((1, 1, 2, 5)),
            seed=number,
            sampling=draw.choice(WAYS),
        )
        for number in range(count)
    ]


def answered(
    engine: LocalEngine, requests: list[Request], seed: int
) -> tuple[list[list[Completion]], int]:
    """The answers to requests that come at random steps, and how many met others under way."""
    draw = random.Random(seed)
    line = list(requests)
    numbers: dict[int, int] = {}
    found: dict[int, list[Completion]] = {}
    late = 0
    while line or len(found) < len(requests):
        for _ in range(draw.choice((0, 0, 1, 3)) if numbers else 1):
            if line:
                late += len(found) < len(numbers)
                numbers[engine.submit(line.pop(0))] = len(numbers)
        if len(found) < len(numbers):
            found |= {numbers[number]: answers for number, answers in engine.step().items()}
    return [found[place] for place in range(len(requests))], late


@EVERY_CACHE
@pytest.mark.parametrize("max_running", [3, pytest.param(64, marks=pytest.mark.slow)])
def test_whenever_requests_come_their_answers_are_those_of_the_reference(
    model: str, max_running: int
) -> None:
    policy, requests = policy_of(model), mixed_requests(14, seed=1)
    expected = generate(reference_engine(policy), requests)
    engine = LocalEngine(engine_model(policy), max_running=max_running)
    for seed in (0, 1):
        answers, late = answered(engine, requests, seed)
        assert_same_answers(answers, expected)
        assert late > 5


@EVERY_CACHE
@pytest.mark.parametrize("pages", [5, pytest.param(9, marks=pytest.mark.slow)])
def test_late_requests_move_keys_and_values_into_pages_where_memory_asks_for_it(
    model: str, pages: int
) -> None:
    policy = policy_of(model)
    long = Sampling(max_new_tokens=2 * PAGE)
    requests = [
        *(replace(request, sampling=WAYS[0]) for request in mixed_requests(4, seed=2)),
        *(replace(request, sampling=long) for request in mixed_requests(8, seed=3, longest=40)),
    ]
    expected = generate(reference_engine(policy), requests)
    model_of_engine = engine_model(policy)
    size = cache_size(model_of_engine, AttentionMasks(model_of_engine.model).window_of)
    engine = LocalEngine(
        model_of_engine, max_running=8, cache_memory=pages * size.page + 8 * size.ring_bytes(999)
    )
    forms: list[bool] = []
    embedding = model_of_engine.model.get_input_embeddings()
    embedding.register_forward_pre_hook(lambda *_: forms.append(cache_of(engine).table is not None))
    answers, _ = answered(engine, requests, seed=0)
    assert_same_answers(answers, expected)
    assert forms[0] is False
    assert forms[-1] is True


def test_keys_and_values_stay_within_their_memory_however_requests_come() -> None:
    policy, requests = policy_of("qwen3"), mixed_requests(30, seed=5)
    model = engine_model(policy)
    size = cache_size(model, AttentionMasks(model.model).window_of)
    memory = 6 * size.page
    engine = LocalEngine(model, max_running=64, cache_memory=memory)
    held: list[int] = []

    def note(*_: Any) -> None:
        held.append(bytes_of(cache_of(engine)))

    model.model.get_input_embeddings().register_forward_pre_hook(note)
    answered(engine, requests, seed=3)
    assert memory / 2 < max(held) <= memory


def test_memory_is_planned_ahead_so_that_single_arrivals_move_little() -> None:
    policy = policy_of("qwen3")
    model = engine_model(policy)
    size = cache_size(model, AttentionMasks(model.model).window_of)
    memory = CacheMemory(size=size, limit=100 * size.block_bytes(64), max_running=None)
    rows, plans = 0, set()
    for answers in range(1, 101):
        rows = max(rows, memory.plan_more(answers=answers, rows=rows, capacity=64).slots)
        plans.add(rows)
        assert rows >= answers
    assert sorted(plans) == [1, 2, 4, 8, 16, 32, 64, 100]


def test_a_step_answers_what_is_complete_and_keys_and_values_go_when_nothing_is_left() -> None:
    engine = LocalEngine(engine_model(policy_of("qwen3")), max_running=8)
    one = engine.submit(some_request(budget=1))
    other = engine.submit(some_request(budget=2, num_completions=3))
    nobody = engine.submit(some_request(budget=2, num_completions=0))
    first = engine.step()
    assert set(first) == {one, nobody} | ({other} & first.keys())
    assert first[nobody] == []
    if other not in first:
        assert len(engine.step()[other]) == 3
    assert engine._batch is None


def some_request(budget: int, num_completions: int = 1, seed: int = 0) -> Request:
    return Request(
        prompt_ids=torch.tensor([7, 8, 9]),
        num_completions=num_completions,
        seed=seed,
        sampling=Sampling(max_new_tokens=budget),
    )


@pytest.mark.parametrize("model", ["qwen3", "mixtral"])
def test_a_request_that_is_withdrawn_leaves_the_others_alone(model: str) -> None:
    policy, requests = policy_of(model), mixed_requests(8, seed=7)
    expected = generate(reference_engine(policy), requests)
    for after in (0, 1, 3):
        engine = LocalEngine(engine_model(policy), max_running=6)
        numbers = [engine.submit(request) for request in requests]
        found: dict[int, list[Completion]] = {}
        for _ in range(after):
            found |= engine.step()
        gone = [number for number in numbers[::3] if number not in found]
        for number in gone:
            engine.withdraw(number)
        while len(found) < len(numbers) - len(gone):
            found |= engine.step()
        left = [place for place, number in enumerate(numbers) if number not in gone]
        assert_same_answers([found[numbers[n]] for n in left], [expected[n] for n in left])
        assert engine._batch is None


@EVERY_CACHE
@pytest.mark.parametrize("pages", [None, 12])
def test_after_a_sync_sequences_go_on_and_each_token_has_the_version_that_sampled_it(
    model: str, pages: int | None
) -> None:
    policy, other = policy_of(model), policy_of(model)
    with torch.no_grad():
        for weight in other.model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    own = engine_model(policy)
    size = cache_size(own, AttentionMasks(own.model).window_of)
    memory = None if pages is None else pages * size.page + 8 * size.ring_bytes(999)
    engine = LocalEngine(own, max_running=8, cache_memory=memory)
    ways = (Sampling(max_new_tokens=2 * PAGE), Sampling(max_new_tokens=12))
    requests = [
        replace(request, sampling=ways[place % 2])
        for place, request in enumerate(mixed_requests(8, seed=4, longest=40))
    ]
    numbers = [engine.submit(request) for request in requests]
    found: dict[int, list[Completion]] = {}
    for _ in range(4):
        found |= engine.step()
    drive(engine.sync(StateDictWeights(state=other.model.state_dict(), version=5)))
    while len(found) < len(numbers):
        found |= engine.step()

    answers = [answer for number in numbers for answer in found[number]]
    mixed = [a for a in answers if set(a.token_versions.tolist()) == {0, 5}]
    assert len(mixed) > 3
    assert all((a.token_versions.diff() >= 0).all() for a in answers)
    assert all(int(a.token_versions[-1]) == a.policy_version for a in answers)
    engines = {
        0: LocalEngine(engine_model(policy), max_running=8),
        5: LocalEngine(engine_model(other), max_running=8),
    }
    for answer in answers:
        whole = torch.cat([answer.prompt_ids, answer.token_ids])
        for version, scorer in engines.items():
            (scores,) = drive(scorer.score([whole]))
            its_own = answer.token_versions == version
            expected = scores[len(answer.prompt_ids) :][its_own]
            torch.testing.assert_close(answer.logprobs[its_own], expected, rtol=1e-4, atol=1e-4)
        if answer.routing is not None:
            known = torch.ones(1, len(whole) - 1, dtype=torch.bool)
            assert torch.equal(answer.routing.known, known)
            checksum = fed_tokens_checksum(whole[None, :-1], known)
            assert torch.equal(answer.routing.fed_tokens, checksum)


def test_a_late_request_that_could_never_fit_is_refused_alone() -> None:
    model = engine_model(policy_of("qwen3"))
    size = cache_size(model, AttentionMasks(model.model).window_of)
    engine = LocalEngine(model, max_running=8, cache_memory=size.paged_bytes(PAGE))
    number = engine.submit(some_request(budget=5))
    with pytest.raises(UserError, match="one sequence of 103 tokens need"):
        engine.submit(some_request(budget=100))
    found: dict[int, list[Completion]] = {}
    while not found:
        found |= engine.step()
    assert set(found) == {number}
