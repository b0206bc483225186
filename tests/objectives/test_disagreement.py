"""Counts of tokens whose set of experts differs, against the dense formula."""

from functools import reduce
from itertools import pairwise
from operator import add

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.memory import LiveStorage

from steadyrl.base.errors import UserError
from steadyrl.objectives import routing_disagreement, sets_differ


def test_routing_disagrees_where_the_sets_of_experts_differ() -> None:
    # Tokens by layers. The order within a token's experts does not count.
    engine = torch.tensor([[[0, 1], [2, 3]], [[4, 5], [0, 1]], [[6, 7], [2, 5]], [[0, 7], [1, 3]]])
    trainer = torch.tensor([[[1, 0], [2, 3]], [[4, 6], [2, 1]], [[7, 6], [5, 3]], [[7, 0], [3, 1]]])
    got = routing_disagreement(engine.to(torch.uint8), trainer)
    assert got.per_layer.tolist() == [1 / 4, 2 / 4]
    assert got.any_layer == 2 / 4
    assert got.mean == 3 / 8


@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 3), st.integers(1, 4)),
    experts=st.integers(1, 5),
    cuts=st.sets(st.integers(1, 8)),
    seed=st.integers(0, 999),
)
def test_counts_of_micro_batches_give_the_fractions_of_the_dense_formula(
    shape: tuple[int, int, int], experts: int, cuts: set[int], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    engine, trainer = (torch.randint(experts, shape, generator=generator) for _ in range(2))
    # The formula, over all tokens at once, with every set sorted.
    differs = (engine.sort(dim=-1).values != trainer.sort(dim=-1).values).any(dim=-1)

    bounds = [0, *sorted(cut for cut in cuts if cut < shape[0]), shape[0]]
    parts = [slice(*ends) for ends in pairwise(bounds)]
    small = engine.to(torch.uint8), trainer.to(torch.uint8)
    got = reduce(add, (routing_disagreement(*(values[part] for values in small)) for part in parts))

    assert got.tokens == shape[0]
    assert torch.equal(got.per_layer, differs.float().mean(dim=0))
    assert got.any_layer == differs.any(dim=1).double().mean().item()
    assert got.mean == differs.double().mean().item()


def test_more_sets_than_are_sorted_at_a_time_are_compared_each_by_itself() -> None:
    engine = torch.arange(4, dtype=torch.uint8).expand(70_000, 1, 4)
    trainer = engine.flip(-1).clone()
    trainer[69_999, 0, 0] = 9
    assert sets_differ(engine, trainer).nonzero().tolist() == [[69_999, 0]]


def test_comparing_takes_a_fraction_of_what_sorting_every_set_took() -> None:
    # Of 4,096 sets of 8, one in 16 is written in another order. Sorting all of one side would give
    # values and 8 bytes of index for each expert: 9 times the bytes of its routes.
    engine = torch.randint(128, (4096, 1, 8)).to(torch.uint8)
    trainer = engine.clone()
    trainer[::16] = engine[::16].flip(-1)
    with LiveStorage() as memory:
        assert not sets_differ(engine, trainer).any()
    assert memory.peak < 2.5 * engine.nbytes


@pytest.mark.parametrize("shape", [(0, 2, 4), (3, 0, 4)])
def test_routing_disagreement_of_nothing_is_refused(shape: tuple[int, ...]) -> None:
    nothing = torch.zeros(shape, dtype=torch.long)
    with pytest.raises(UserError, match="requires at least one token and one MoE layer, got shape"):
        routing_disagreement(nothing, nothing)
