"""Keys and values in slots, written and read by hand."""

import torch
from torch import Tensor
from transformers import DynamicCache

from steadyrl.engines.slot_cache import SlotCache

LAYERS, HEADS, WIDTH = 2, 2, 3


def prefilled(prompts: int, length: int) -> DynamicCache:
    """Keys that say prompt, position and layer as 100 p + 10 t + l; values are their negatives."""
    cache = DynamicCache()
    for layer in range(LAYERS):
        keys = 100 * torch.arange(prompts)[:, None] + 10 * torch.arange(length) + layer
        keys = keys[:, None, :, None].expand(-1, HEADS, -1, WIDTH).float()
        cache.update(keys, -keys, layer)
    return cache


def step(cache: SlotCache, positions: list[int], new: list[int]) -> list[list[float]]:
    """The keys that each sequence of layer 1 sees after it wrote `new` at `positions`."""
    cache.begin_step(torch.tensor(positions), max(positions) + 1)
    states = torch.tensor(new).float()[:, None, None, None].expand(-1, HEADS, 1, WIDTH)
    cache.update(states, -states, 0)
    keys, values = cache.update(states, -states, 1)
    assert torch.equal(keys, -values)
    assert torch.equal(keys, keys[:, :1, :, :1].expand_as(keys))
    return seen(keys, positions)


def seen(keys: Tensor, positions: list[int]) -> list[list[float]]:
    return [row[: n + 1].tolist() for row, n in zip(keys[:, 0, :, 0], positions, strict=True)]


def test_a_prompt_is_copied_to_each_of_its_answers_and_written_behind() -> None:
    cache = SlotCache(4, 6)
    cache.admit(
        prefilled(2, 2), torch.tensor([0, 1, 1]), torch.tensor([0, 1, 2]), torch.tensor([2, 2, 2])
    )
    assert step(cache, [2, 2, 1], [7, 8, 9]) == [[1, 11, 7], [101, 111, 8], [101, 9]]
    assert cache.get_seq_length() == 3
    assert step(cache, [3, 3, 2], [4, 5, 6]) == [[1, 11, 7, 4], [101, 111, 8, 5], [101, 9, 6]]


def test_a_slot_is_moved_whole_though_it_was_only_admitted() -> None:
    cache = SlotCache(3, 6)
    cache.admit(
        prefilled(2, 3), torch.tensor([0, 0, 1]), torch.tensor([0, 1, 2]), torch.tensor([3, 3, 3])
    )
    cache.release([], [2], [0])
    assert step(cache, [3, 3], [7, 8]) == [[101, 111, 121, 7], [1, 11, 21, 8]]


def test_a_longer_prompt_admitted_later_is_moved_whole() -> None:
    cache = SlotCache(3, 8)
    cache.admit(prefilled(1, 1), torch.tensor([0]), torch.tensor([0]), torch.tensor([1]))
    step(cache, [1], [7])
    cache.admit(prefilled(2, 4), torch.tensor([0, 1]), torch.tensor([1, 2]), torch.tensor([4, 4]))
    cache.release([], [2], [0])
    assert step(cache, [4, 4], [5, 6]) == [[101, 111, 121, 131, 5], [1, 11, 21, 31, 6]]


def test_a_slot_is_moved_whole_after_steps() -> None:
    cache = SlotCache(2, 6)
    cache.admit(prefilled(2, 1), torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor([1, 1]))
    step(cache, [1, 1], [7, 8])
    step(cache, [2, 2], [5, 6])
    cache.release([], [1], [0])
    assert step(cache, [3], [9]) == [[101, 8, 6, 9]]


def test_columns_come_as_they_are_needed_and_what_was_written_stays() -> None:
    cache = SlotCache(2, 7)
    cache.admit(prefilled(1, 2), torch.tensor([0, 0]), torch.tensor([0, 1]), torch.tensor([2, 2]))
    columns, expected = [], [1.0, 11.0]
    for position in range(2, 7):
        expected.append(float(position))
        assert step(cache, [position, 2], [position, 50]) == [expected, [1, 11, 50]]
        keys, _ = cache.update(torch.ones(2, HEADS, 1, WIDTH), torch.ones(2, HEADS, 1, WIDTH), 0)
        columns.append(keys.untyped_storage().nbytes() // (4 * 2 * HEADS * WIDTH))
    assert columns == [4, 4, 7, 7, 7]  # doubled, but not beyond 7
