"""The checksum of fed tokens, and routing as a value."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from steadyrl.records.routing import Routing, expert_dtype, fed_tokens_checksum, join_routing

TOKENS = st.lists(st.integers(0, 200_000), min_size=2, max_size=12)


def checksum(tokens: list[int], known: list[bool] | None = None) -> int:
    row = torch.tensor([tokens])
    mask = torch.ones_like(row, dtype=torch.bool) if known is None else torch.tensor([known])
    return fed_tokens_checksum(row, mask).item()


@settings(deadline=None)
@given(tokens=TOKENS, data=st.data())
def test_changing_one_token_changes_the_checksum(tokens: list[int], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(tokens) - 1))
    other = data.draw(st.integers(0, 200_000).filter(lambda token: token != tokens[place]))
    assert checksum(tokens) != checksum([*tokens[:place], other, *tokens[place + 1 :]])


@settings(deadline=None)
@given(tokens=TOKENS, data=st.data())
def test_exchanging_two_tokens_changes_the_checksum(tokens: list[int], data: st.DataObject) -> None:
    one, other = (data.draw(st.integers(0, len(tokens) - 1)) for _ in range(2))
    assume(tokens[one] != tokens[other])
    swapped = list(tokens)
    swapped[one], swapped[other] = tokens[other], tokens[one]
    assert checksum(tokens) != checksum(swapped)


@settings(deadline=None)
@given(tokens=TOKENS)
def test_shifting_tokens_changes_the_checksum(tokens: list[int]) -> None:
    assume(len(set(tokens)) > 1)
    assert checksum(tokens) != checksum([*tokens[1:], tokens[0]])
    assert checksum(tokens[1:]) != checksum(tokens[:-1])


@settings(deadline=None)
@given(tokens=TOKENS, token=st.integers(0, 200_000))
def test_losing_or_repeating_a_token_changes_the_checksum(tokens: list[int], token: int) -> None:
    assert checksum([*tokens, token]) != checksum(tokens)
    assert checksum([token, *tokens]) != checksum(tokens)


@settings(deadline=None)
@given(tokens=TOKENS, left=st.integers(0, 4), right=st.integers(0, 4))
def test_padding_on_either_side_leaves_the_checksum(
    tokens: list[int], left: int, right: int
) -> None:
    known = [False] * left + [True] * len(tokens) + [False] * right
    assert checksum([9] * left + tokens + [9] * right, known) == checksum(tokens)


@settings(deadline=None)
@given(tokens=TOKENS, data=st.data())
def test_unknown_tokens_do_not_count_and_known_ones_do(
    tokens: list[int], data: st.DataObject
) -> None:
    known = data.draw(st.lists(st.booleans(), min_size=len(tokens), max_size=len(tokens)))
    other = [token if mark else token + 1 for token, mark in zip(tokens, known, strict=True)]
    assert checksum(tokens, known) == checksum(other, known)
    if any(known):
        place = known.index(True)
        fewer = [*known[:place], False, *known[place + 1 :]]
        assert checksum(tokens, known) != checksum(tokens, fewer)


def test_small_token_numbers_do_not_collide() -> None:
    # Every sequence of up to three tokens out of twelve: 12 + 144 + 1728 checksums, all different.
    rows = [[a] for a in range(12)]
    rows += [[a, b] for a in range(12) for b in range(12)]
    rows += [[a, b, c] for a in range(12) for b in range(12) for c in range(12)]
    assert len({checksum(row) for row in rows}) == len(rows) == 1884


def test_rows_are_summed_apart() -> None:
    tokens = torch.tensor([[1, 2, 3], [3, 2, 1]])
    known = torch.tensor([[True, True, True], [True, True, False]])
    assert fed_tokens_checksum(tokens, known).tolist() == [checksum([1, 2, 3]), checksum([3, 2])]


def some_routing() -> tuple[Tensor, Routing]:
    tokens = torch.tensor([[5, 6, 7, 0], [8, 9, 0, 0]])
    known = torch.tensor([[True, True, True, False], [True, True, False, False]])
    experts = torch.arange(16, dtype=torch.uint8).view(2, 4, 1, 2)
    return tokens, Routing.of(experts, known, tokens)


def test_rows_keep_their_checksums_when_they_are_chosen_and_cut() -> None:
    tokens, routing = some_routing()
    chosen = routing.rows(torch.tensor([1, 0, 1]), 3)
    assert torch.equal(chosen.fed_tokens, routing.fed_tokens[[1, 0, 1]])
    assert chosen.padded().experts[:, :, 0, 0].tolist() == [[8, 10, 0], [0, 2, 4], [8, 10, 0]]
    assert chosen.known.tolist() == [[True, True, False], [True] * 3, [True, True, False]]
    rows = tokens[[1, 0, 1], :3]
    assert torch.equal(chosen.fed_tokens, fed_tokens_checksum(rows, chosen.known))


@st.composite
def ragged(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Dense choices, which of them are known, and tokens."""
    rows, length = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    experts = torch.randint(256, (rows, length, 2, 3), generator=generator).to(torch.uint8)
    known = torch.rand(rows, length, generator=generator) < draw(st.sampled_from([0.3, 0.8, 1.0]))
    return experts, known, torch.randint(90, (rows, length), generator=generator)


@settings(deadline=None)
@given(dense=ragged(), data=st.data())
def test_ragged_choices_are_the_dense_ones_where_they_are_known(
    dense: tuple[Tensor, Tensor, Tensor], data: st.DataObject
) -> None:
    experts, known, tokens = dense
    routing = Routing.of(experts, known, tokens)
    assert routing.nbytes == 6 * int(known.sum())
    index = torch.tensor(data.draw(st.lists(st.integers(0, len(known) - 1), min_size=1)))
    chosen, length = routing.rows(index, known.shape[1]), known.shape[1]
    padded = chosen.padded()
    assert torch.equal(padded.known, known[index])
    assert torch.equal(padded.experts, experts[index] * known[index][..., None, None])
    some = known[index] & (torch.rand(len(index), length) < 0.5)
    assert torch.equal(chosen.at(some), experts[index][some])
    assert torch.equal(chosen.fed_tokens, fed_tokens_checksum(tokens[index], known[index]))


@settings(deadline=None)
@given(dense=ragged(), data=st.data())
def test_micro_batches_in_any_order_are_joined_to_the_whole(
    dense: tuple[Tensor, Tensor, Tensor], data: st.DataObject
) -> None:
    experts, known, tokens = dense
    routing = Routing.of(experts, known, tokens)
    order = torch.tensor(data.draw(st.permutations(range(len(known)))))
    cut = data.draw(st.integers(0, len(known) - 1))
    parts = []
    for index in (order[:cut], order[cut:]):
        if len(index):
            length = max(1, int((known[index] * torch.arange(1, known.shape[1] + 1)).max()))
            parts.append((index, routing.rows(index, length)))
    whole = join_routing(parts, known.shape[1])
    assert torch.equal(whole.known, known)
    assert torch.equal(whole.fed_tokens, routing.fed_tokens)
    assert torch.equal(whole.padded().experts, routing.padded().experts)


def test_rows_are_chosen_and_joined_without_a_copy() -> None:
    _, routing = some_routing()
    parts = [(torch.tensor([1]), routing.rows(torch.tensor([1]), 2))]
    parts.append((torch.tensor([0]), routing.rows(torch.tensor([0]), 3)))
    whole = join_routing(parts, 4)
    assert all(mine[0] is its[0] for mine, its in zip(whole.experts, routing.experts, strict=True))


def test_choices_that_are_not_known_are_never_made_up() -> None:
    _, routing = some_routing()
    everywhere = torch.ones(2, 4, dtype=torch.bool)
    with pytest.raises(RuntimeError, match=r"is missing at 3 of 8 positions"):
        routing.at(everywhere)


def test_checksums_of_many_tokens_are_those_of_each_row() -> None:
    tokens = torch.arange(3 * 10_000).view(3, -1)
    known = tokens % 7 > 0
    rows = [fed_tokens_checksum(tokens[row : row + 1], known[row : row + 1]) for row in range(3)]
    assert torch.equal(fed_tokens_checksum(tokens, known), torch.cat(rows))


def test_moving_to_a_device_changes_no_value() -> None:
    _, routing = some_routing()
    moved = routing.to(torch.device("cpu"))
    assert torch.equal(moved.at(routing.known), routing.at(routing.known))
    assert torch.equal(moved.known, routing.known)
    assert torch.equal(moved.fed_tokens, routing.fed_tokens)


@pytest.mark.parametrize("num_experts", [2, 256, 257, 4096])
def test_smallest_type_holds_every_expert(num_experts: int) -> None:
    dtype = expert_dtype(num_experts)
    assert torch.iinfo(dtype).max >= num_experts - 1
    assert torch.iinfo(dtype).bits == (8 if num_experts <= 256 else 16)
