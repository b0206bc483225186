"""Memory for keys and values: pages, rings, and which of them a rollout gets."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steadyrl.base.errors import UserError
from steadyrl.engines.cache_memory import CachePlan, CacheSize, cache_size, plan_cache
from steadyrl.engines.local import LocalEngine
from steadyrl.engines.page_table import PAGE, PageTable, pages_for
from steadyrl.engines.protocol import Request, Sampling
from steadyrl.engines.slot_cache import SlotCache, ring_positions
from steadyrl.policies.attention_masks import AttentionMasks
from tests.driving import generate
from tests.engines.builders import (
    EVERY_CACHE,
    assert_same_answers,
    engine_model,
    flat,
    local_engine,
    policy_of,
    some_requests,
)

LONG = Sampling(max_new_tokens=3 * PAGE)
CPU = torch.device("cpu")


def size_of(model: str) -> CacheSize:
    engine = engine_model(policy_of(model))
    return cache_size(engine, AttentionMasks(engine.model).window_of)


def test_bytes_of_a_position_are_those_of_all_layers() -> None:
    # Two layers, keys and values, one head of width 16 in float32: 2 * 2 * 1 * 16 * 4.
    config = policy_of("qwen3").model.config
    expected = config.num_hidden_layers * 2 * config.num_key_value_heads * config.head_dim * 4
    assert size_of("qwen3") == CacheSize(full=expected)
    gemma = policy_of("gemma2").model.config
    halves = size_of("gemma2")
    assert halves.window == gemma.sliding_window
    assert halves.full + halves.sliding == (
        gemma.num_hidden_layers * 2 * gemma.num_key_value_heads * gemma.head_dim * 4
    )


@EVERY_CACHE
@pytest.mark.parametrize("room", [2.7, pytest.param(1.0, marks=pytest.mark.slow)])
def test_pages_change_no_answer(model: str, room: float) -> None:
    policy = policy_of(model)
    policy.model.generation_config.eos_token_id = [1, 2]
    requests = some_requests((3, PAGE - 1, PAGE, 20), num_completions=4)
    expected = generate(local_engine(policy), requests, LONG)
    longest = PAGE + LONG.max_new_tokens
    memory = int(room * size_of(model).paged_bytes(longest))
    engine = LocalEngine(engine_model(policy), max_running=16, cache_memory=memory)
    assert_same_answers(generate(engine, requests, LONG), expected)
    assert max(len(answer.token_ids) for answer in flat(expected)) > PAGE


@pytest.mark.parametrize("model", ["qwen3", "mixtral"])
def test_sequences_that_began_last_begin_again_where_pages_run_out(model: str) -> None:
    policy, greedy = policy_of(model), Sampling(temperature=0, max_new_tokens=3 * PAGE)
    requests = [
        Request(prompt_ids=torch.arange(3, 3 + n), num_completions=1, seed=n, sampling=Sampling())
        for n in range(1, 9)
    ]
    expected = generate(local_engine(policy), requests, greedy)
    fed_once = sum(len(answer.token_ids) - 1 for answer in flat(expected))
    memory = 10 * size_of(model).page
    engine = LocalEngine(engine_model(policy), max_running=8, cache_memory=memory)
    decoded: list[int] = []
    engine._model.model.get_input_embeddings().register_forward_pre_hook(
        lambda _module, args: decoded.append(len(args[0]) * (args[0].shape[1] == 1))
    )
    assert_same_answers(generate(engine, requests, greedy), expected)
    assert sum(decoded) > fed_once


def test_memory_of_pages_is_that_of_what_was_written() -> None:
    policy = policy_of("qwen3")
    size = size_of("qwen3")
    sampling = Sampling(max_new_tokens=100)
    short = [
        Request(prompt_ids=torch.tensor([7]), num_completions=1, seed=n, sampling=Sampling())
        for n in range(20)
    ]
    # Pages for one sequence at its full length hold all of these, most of which end soon.
    engine = LocalEngine(
        engine_model(policy), max_running=20, cache_memory=size.paged_bytes(101) + size.page
    )
    running: list[int] = []
    engine._model.model.get_input_embeddings().register_forward_pre_hook(
        lambda _module, args: running.append(len(args[0]))
    )
    assert_same_answers(
        generate(engine, short, sampling), generate(local_engine(policy), short, sampling)
    )
    assert 1 < max(running) <= pages_for(101) + 1


def test_one_sequence_that_does_not_fit_is_refused() -> None:
    size = size_of("qwen3")
    engine = LocalEngine(
        engine_model(policy_of("qwen3")), max_running=4, cache_memory=size.paged_bytes(40) - 1
    )
    with pytest.raises(
        UserError, match=r"sequence of 40 tokens need 1 MiB, but engine.cache_memory is 0 MiB. Rai"
    ):
        generate(engine, some_requests((8,)), Sampling(max_new_tokens=32))


# One position takes 1 byte in full layers, so that a page takes PAGE, and 2 in rings of 8.
FULL, BOTH = CacheSize(full=1), CacheSize(full=1, sliding=2, window=8)


@pytest.mark.parametrize(
    ("size", "memory", "max_running", "plan"),
    [
        (FULL, 640, 10, CachePlan(slots=10)),  # 10 x 64 fit
        (FULL, 639, 10, CachePlan(slots=10, pages=19)),
        (FULL, 640, 4, CachePlan(slots=4)),
        (FULL, 640, None, CachePlan(slots=10)),
        (FULL, 320, None, CachePlan(slots=5)),
        (FULL, 64, None, CachePlan(slots=1)),
        (BOTH, 800, 10, CachePlan(slots=10)),  # 10 x (64 + 16)
        (BOTH, 400, 10, CachePlan(slots=10, pages=7)),  # 400 - 10 x 16 = 240 = 7.5 pages
        (BOTH, 100, 10, CachePlan(slots=2, pages=2)),  # 64 for one sequence, 36 for 2 rings
        (CacheSize(full=0, sliding=2, window=8), 100, 10, CachePlan(slots=6)),
    ],
)
def test_a_block_where_there_is_room_and_pages_beyond(
    size: CacheSize, memory: int, max_running: int | None, plan: CachePlan
) -> None:
    found = plan_cache(size, memory, answers=20, capacity=64, max_running=max_running)
    assert found == plan


@given(st.integers(1, 40), st.integers(1, 9))
def test_a_ring_holds_the_last_positions_of_its_window(length: int, window: int) -> None:
    columns = torch.arange(min(length, window))
    held = ring_positions(torch.tensor([length - 1]), columns, window)[0].tolist()
    assert sorted(held) == list(range(max(0, length - window), length))
    assert all(position % window == column for column, position in enumerate(held))


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_pages_belong_to_one_slot_each_and_come_back(data: st.DataObject) -> None:
    table = PageTable(4, 4 * PAGE, 9, CPU)
    lengths = [data.draw(st.integers(1, 2 * PAGE)) for _ in range(4)]
    table.make_room(range(4), lengths)
    assert table.free == 9 - sum(pages_for(length) for length in lengths)
    owned = [table.pages_of(4, n)[slot].tolist() for slot, n in enumerate(lengths)]
    assert len({page for pages in owned for page in pages}) == sum(map(len, owned))
    table.release([1], [3], [1])
    assert table.pages_of(4, lengths[3])[1].tolist() == owned[3]
    assert table.free == 9 - sum(pages_for(lengths[slot]) for slot in (0, 2, 3))
    assert table.shortage([lengths[0], lengths[3], 4 * PAGE, 4 * PAGE]) == max(
        0, 8 - pages_for(lengths[2]) - table.free
    )


def test_positions_lie_where_the_table_says() -> None:
    table = PageTable(2, 3 * PAGE, 6, CPU)
    table.make_room([0], [1])
    table.make_room([1, 0], [PAGE + 1, 2 * PAGE])  # pages 1 and 2 for slot 1, 3 for slot 0
    places = table.slot_mapping(torch.tensor([0, 0, 1]), torch.tensor([5, PAGE + 2, PAGE]))
    assert places.tolist() == [5, 3 * PAGE + 2, 2 * PAGE]


def test_a_released_slot_is_written_anew() -> None:
    table = PageTable(2, 2 * PAGE, 2, CPU)
    cache = SlotCache(2, 2 * PAGE, table=table)
    table.make_room([0, 1], [1, 1])
    cache.release([0, 1], [], [])
    assert table.free == 2
