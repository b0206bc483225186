"""Flips of expert choices, and the margins they had."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.closeness import assert_close
from tests.policies.families import FAMILIES, VOCABULARY, family_model

from steadyrl.analysis.mismatch.layers import (
    LayerFlips,
    choice_margins,
    layer_flips,
    watch_margins,
)
from steadyrl.policies.policy import Policy
from steadyrl.policies.tokenizers import character_tokenizer

LOGITS = st.lists(st.floats(-5, 5, width=32), min_size=6, max_size=6)
FRACTIONS = st.lists(st.floats(-0.49, 0.49), min_size=6, max_size=6)


def test_margin_is_the_gap_between_the_last_chosen_and_the_first_rejected() -> None:
    # Chosen are 3.0 and 1.5, so 1.5 is the last; of 1.0, 0.5 and -2.0 the first rejected is 1.0.
    logits = torch.tensor([[1.0, 3.0, 0.5, 1.5, -2.0]])

    assert choice_margins(logits, torch.tensor([[1, 3]])).tolist() == [0.5]
    assert choice_margins(logits, torch.tensor([[1, 2]])).tolist() == [-1.0]
    assert choice_margins(logits, torch.arange(5)[None]).tolist() == [torch.inf]


@given(LOGITS, FRACTIONS, st.integers(1, 5))
def test_logits_that_move_by_less_than_half_the_margin_flip_no_choice(
    logits: list[float], fractions: list[float], count: int
) -> None:
    row = torch.tensor([logits], dtype=torch.float64)
    chosen = row.topk(count).indices
    margin = choice_margins(row.float(), chosen).double()
    moved = row + margin * torch.tensor([fractions], dtype=torch.float64)

    if margin > 0:
        assert set(moved.topk(count).indices[0].tolist()) == set(chosen[0].tolist())


def family_margins(family: str) -> tuple[list[torch.Tensor], list[torch.Tensor], int]:
    """Margins that were watched, router logits as Transformers records them, experts a token."""
    policy = Policy(family_model(family), character_tokenizer())
    assert policy.hook is not None
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(2, VOCABULARY, (3, 7), generator=generator)
    with torch.no_grad(), watch_margins(policy.hook.routers) as margins:
        policy.score(tokens, tokens > 0, tokens > 0)
    with torch.no_grad():
        recorded = policy.model(tokens, output_router_logits=True).router_logits
    return margins, list(recorded), policy.hook.experts_per_token


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "deepseek_v3"])
def test_margins_of_every_layer_are_those_of_the_family_s_own_router_logits(family: str) -> None:
    margins, logits, chosen = family_margins(family)

    assert len(margins) == len(logits) == 3
    for ours, theirs in zip(margins, logits, strict=True):
        ordered = theirs.reshape(-1, theirs.shape[-1]).sort(descending=True).values
        assert_close(ours, ordered[:, chosen - 1] - ordered[:, chosen])


def test_margins_are_negative_where_a_family_chooses_by_more_than_its_logits() -> None:
    margins, _, _ = family_margins("deepseek_v3")

    assert (torch.stack(margins) < 0).any()


def test_margins_are_noted_inside_the_block_only() -> None:
    policy = Policy(family_model("qwen3_moe"), character_tokenizer())
    assert policy.hook is not None
    tokens = torch.arange(2, 9)[None]
    with torch.no_grad():
        with watch_margins(policy.hook.routers) as margins:
            policy.score(tokens, tokens > 0, tokens > 0)
        noted = [values.clone() for values in margins]
        policy.score(tokens + 1, tokens > 0, tokens > 0)

    assert all(torch.equal(a, b) for a, b in zip(margins, noted, strict=True))


def test_flips_of_a_layer_in_numbers() -> None:
    # Ten tokens with margins 0.1, 0.2, ..., 1.0, of which those at 0.1, 0.5 and 0.8 flip. The
    # quantile 0.1 of all margins is 0.1 + 0.9 x 0.1 = 0.19 and has one of the three flips below it.
    # Their quantiles 0.1 and 0.9 are 0.1 + 0.2 x 0.4 and 0.5 + 0.8 x 0.3. The median of the other
    # seven, 0.2, 0.3, 0.4, 0.6, 0.7, 0.9, 1.0, is 0.6.
    margins = torch.arange(1, 11)[:, None] / 10
    flipped = torch.zeros(10, 1, dtype=torch.bool)
    flipped[[0, 4, 7]] = True
    (flips,) = layer_flips(flipped, margins)

    assert flips.share == pytest.approx(0.3)
    assert flips.in_closest_tenth == pytest.approx(1 / 3)
    assert flips.margins_flipped == pytest.approx((0.18, 0.5, 0.74))
    assert flips.margins_kept is not None
    assert flips.margins_kept[1] == pytest.approx(0.6)


def test_each_layer_is_counted_by_itself() -> None:
    flipped = torch.tensor([[False, True], [False, True]])
    first, second = layer_flips(flipped, torch.tensor([[1.0, 2.0], [1.0, 4.0]]))

    assert (first.share, second.share) == (0, 1)
    assert first.margins_flipped is None
    assert first.in_closest_tenth is None
    assert second.margins_kept is None
    assert second.margins_flipped == pytest.approx((2.2, 3.0, 3.8))


def test_a_layer_that_always_chooses_every_expert_has_no_margins() -> None:
    experts = torch.tensor([[[0, 1]], [[1, 0]]])
    margins = choice_margins(torch.randn(2, 2), experts[:, 0])[:, None]

    assert layer_flips(torch.zeros(2, 1, dtype=torch.bool), margins) == (
        LayerFlips(share=0.0, margins_flipped=None, margins_kept=None, in_closest_tenth=None),
    )
