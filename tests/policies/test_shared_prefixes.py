"""What rows share is computed once, and nothing else changes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

from steadyrl.policies.policy import Policy
from steadyrl.policies.shared_prefixes import shared_lengths
from steadyrl.policies.sharing_probe import probe_rows
from steadyrl.policies.token_scores import TokenScores
from steadyrl.policies.tokenizers import character_tokenizer
from steadyrl.records.routing import Routing
from tests.closeness import assert_close
from tests.engines.builders import OTHER_MODELS, falcon_with_alibi, gpt_neo, moshi, policy_of, qwen3
from tests.policies.families import FAMILIES, VOCABULARY, scaled_up
from tests.records.routings import changed

GROUP_OF_ROW = torch.tensor([3, 0, 3, 3, 0, 7, 3])
"""Four rows that begin alike, two that do, and one alone; in no order."""

LENGTHS = torch.tensor([14, 9, 7, 12, 8, 10, 6])
BEGINNINGS = {3: 5, 0: 4, 7: 0}


def rows() -> tuple[Tensor, Tensor]:
    """Tokens, and which of them are real. Rows of a group differ right after their beginning."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(10, VOCABULARY, (len(LENGTHS), 14), generator=generator)
    for group, length in BEGINNINGS.items():
        of_group = (group == GROUP_OF_ROW).nonzero().flatten()
        tokens[of_group, :length] = tokens[of_group[0], :length]
        tokens[of_group, length] = torch.arange(len(of_group))
    real = torch.arange(tokens.shape[1]) < LENGTHS[:, None]
    return torch.where(real, tokens, 0), real


TOKENS, REAL = rows()
ASKED = REAL & (torch.arange(TOKENS.shape[1]) >= 3)


def score(policy: Policy, *, share: bool, replay: Routing | None = None) -> TokenScores:
    return policy.score(
        TOKENS,
        REAL,
        ASKED,
        temperature=0.7,
        replay=replay,
        record_routing=policy.hook is not None,
        prefix_groups=GROUP_OF_ROW if share else None,
        pass_cost=4,  # so that suffixes take several passes
    )


def gradients(policy: Policy, *, share: bool, replay: Routing | None) -> dict[str, Tensor]:
    policy.model.zero_grad()
    (score(policy, share=share, replay=replay).logprobs * TOKENS.cos()).sum().backward()
    named = policy.model.named_parameters()
    return {name: weight.grad.clone() for name, weight in named if weight.grad is not None}


# Equal to passes over whole rows.


@pytest.mark.parametrize("name", [*FAMILIES, *OTHER_MODELS])
def test_shared_beginnings_change_no_score_and_no_gradient(name: str) -> None:
    policy = policy_of(name)
    whole, shared = score(policy, share=False), score(policy, share=True)
    assert_close(shared.logprobs, whole.logprobs)
    assert_close(shared.entropy, whole.entropy)
    if whole.routing is not None:
        assert shared.routing is not None
        assert torch.equal(shared.routing.at(REAL), whole.routing.at(REAL))
    expected = gradients(policy, share=False, replay=whole.routing)
    found = gradients(policy, share=True, replay=whole.routing)
    assert_close(found, expected)


def test_each_beginning_is_computed_once() -> None:
    # Families of 4, 2 and 1 rows share 5, 4 and 0 tokens. The prefix pass has a row for each, as
    # long as the longest beginning: 3 x 5. Suffixes: 66 tokens less 4 x 5 and 2 x 4 are 38.
    policy = policy_of("qwen3_moe")
    fed: list[tuple[int, ...]] = []
    policy.model.base_model.register_forward_pre_hook(
        lambda _module, _args, inputs: fed.append(tuple(inputs["input_ids"].shape)),
        with_kwargs=True,
    )
    shared = policy.score(TOKENS, REAL, ASKED, prefix_groups=GROUP_OF_ROW, pass_cost=0)
    assert torch.isfinite(shared.logprobs).all()
    prefix, *suffixes = fed
    assert prefix == (3, 5)
    assert sum(rows * length for rows, length in suffixes) == 38


def test_rows_that_share_nothing_are_computed_as_they_are() -> None:
    policy = policy_of("qwen3")
    alone = policy.score(TOKENS, REAL, ASKED, prefix_groups=torch.arange(len(TOKENS)))
    assert torch.equal(alone.logprobs, policy.score(TOKENS, REAL, ASKED).logprobs)


# Replay.


def test_replay_is_followed_in_every_row() -> None:
    policy = policy_of("qwen3_moe")
    recorded = score(policy, share=False).routing
    assert recorded is not None
    other = changed(recorded, lambda experts: (experts + 1) % 8)
    used = score(policy, share=True, replay=other).routing
    assert used is not None
    assert torch.equal(used.at(REAL), other.at(REAL))


def test_rows_share_no_further_than_their_routing_agrees() -> None:
    policy = policy_of("qwen3_moe")
    recorded = score(policy, share=False).routing
    assert recorded is not None
    experts = recorded.padded().experts.clone()
    experts[2, 3] = (experts[2, 3] + 1) % 8  # row 2 goes ways of its own at its fourth token
    replay = Routing.of(experts, REAL, TOKENS)
    shared = shared_lengths(TOKENS, REAL, GROUP_OF_ROW, replay.padded())
    assert shared.tolist() == [3, 4, 3, 3, 4, 0, 3]
    whole, found = (score(policy, share=share, replay=replay) for share in (False, True))
    assert_close(found.logprobs, whole.logprobs)
    assert found.routing is not None
    assert torch.equal(found.routing.at(REAL), experts[REAL])


# How far rows are alike.


def test_shared_lengths_of_a_worked_example() -> None:
    # Rows 0 and 2 agree on three tokens; row 1 is all that row 4 begins with, of which it keeps
    # its last token; row 3 is alone.
    tokens = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0], [1, 2, 3, 9], [1, 2, 3, 4], [5, 6, 7, 0]])
    real = torch.arange(4) < torch.tensor([4, 2, 4, 4, 3])[:, None]
    prefix_groups = torch.tensor([0, 1, 0, 2, 1])
    assert shared_lengths(tokens, real, prefix_groups).tolist() == [3, 1, 3, 0, 1]


@given(
    rows=st.lists(st.lists(st.integers(1, 2), min_size=1, max_size=5), min_size=1, max_size=6),
    data=st.data(),
)
def test_shared_lengths_are_the_longest_common_beginnings(
    rows: list[list[int]], data: st.DataObject
) -> None:
    prefix_groups = data.draw(st.lists(st.integers(0, 2), min_size=len(rows), max_size=len(rows)))
    tokens = torch.tensor([row + [0] * (5 - len(row)) for row in rows])
    real = torch.arange(5) < torch.tensor([len(row) for row in rows])[:, None]

    def longest(group: int) -> int:
        members = [row for row, number in zip(rows, prefix_groups, strict=True) if number == group]
        if len(members) == 1:
            return 0
        most = min(len(row) for row in members) - 1
        alike = [n for n in range(most + 1) if len({tuple(row[:n]) for row in members}) == 1]
        return max(alike)

    found = shared_lengths(tokens, real, torch.tensor(prefix_groups))
    assert found.tolist() == [longest(group) for group in prefix_groups]


# What stands in the way.


@pytest.mark.parametrize("name", [*FAMILIES, *OTHER_MODELS])
def test_nothing_stands_in_the_way_of_these_families(name: str) -> None:
    assert policy_of(name).sharing_unsupported_reason() is None


def test_activation_checkpointing_stands_in_the_way() -> None:
    policy = policy_of("qwen3")
    policy.enable_activation_checkpointing()
    reason = policy.sharing_unsupported_reason()
    assert reason == "Activation checkpointing keeps no keys and values."


def test_attention_without_masks_stands_in_the_way() -> None:
    policy = policy_of("qwen3")
    policy.model.config._attn_implementation = "flash_attention_2"
    assert "flash_attention_2, which does not accept custom masks" in (
        policy.sharing_unsupported_reason() or ""
    )


class Forgets(Qwen3ForCausalLM):
    """Keeps no keys and values."""

    def __init__(self, config: Qwen3Config) -> None:
        super().__init__(config)
        self.model.register_forward_pre_hook(
            lambda _, args, inputs: (args, inputs | {"past_key_values": None}), with_kwargs=True
        )


class Counts(Qwen3ForCausalLM):
    """Takes the columns of its inputs for their positions."""

    def __init__(self, config: Qwen3Config) -> None:
        super().__init__(config)
        self.model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(
        self, _module: object, args: object, inputs: dict[str, Tensor]
    ) -> tuple[object, object]:
        length = inputs["input_ids"].shape[1]
        return args, inputs | {"position_ids": torch.arange(length)[None]}


def test_a_model_without_keys_and_values_stands_in_the_way() -> None:
    policy = Policy(Forgets(qwen3().config).eval(), character_tokenizer())
    assert "Forgets fails at it: " in (policy.sharing_unsupported_reason() or "")


def test_a_model_that_counts_positions_by_itself_stands_in_the_way() -> None:
    policy = Policy(Counts(qwen3().config).eval(), character_tokenizer())
    assert policy.sharing_unsupported_reason() == "Counts computes something else then."


def test_windows_that_count_columns_stand_in_the_way() -> None:
    policy = Policy(scaled_up(gpt_neo), character_tokenizer())
    assert "GPTNeoForCausalLM has layers of local" in (policy.sharing_unsupported_reason() or "")


@pytest.mark.parametrize("window", [4, 300])
def test_the_probe_alone_sees_windows_that_count_columns(window: int) -> None:
    model = scaled_up(moshi)  # whose configuration says nothing of it
    model.config.sliding_window = window
    policy = Policy(model, character_tokenizer())
    assert policy.sharing_unsupported_reason() == "MoshiForCausalLM computes something else then."


def test_low_precision_hides_nothing_from_the_probe() -> None:
    # Scores of 4 nats are wrong by 0.02, which bfloat16 may round them by.
    policy = Policy(scaled_up(moshi).bfloat16(), character_tokenizer())
    assert policy.sharing_unsupported_reason() == "MoshiForCausalLM computes something else then."


@pytest.mark.parametrize("name", ["qwen3_moe", "gemma2", "gpt_oss"])
def test_low_precision_stands_in_no_way(name: str) -> None:
    policy = policy_of(name)
    policy.model.bfloat16()
    assert policy.sharing_unsupported_reason() is None


def test_alibi_stands_in_the_way() -> None:
    policy = Policy(scaled_up(falcon_with_alibi), character_tokenizer())
    assert "FalconForCausalLM has alibi: true" in (policy.sharing_unsupported_reason() or "")


@pytest.mark.parametrize(("window", "longest"), [(5, 12), (9, 15), (None, 12), (257, 12), (60, 64)])
def test_the_probe_exceeds_a_window_unless_that_is_too_long(
    window: int | None, longest: int
) -> None:
    # A beginning of the window, 3 tokens more and 3 of its own; with no window 6, 3 and 3.
    model = OTHER_MODELS["gpt2"]()  # has 64 positions
    model.config.sliding_window = window
    rows = probe_rows(model)
    assert rows.tokens.shape == (4, longest)
    shared = shared_lengths(rows.tokens, rows.real, rows.prefix_groups)
    assert shared.tolist() == [longest - 3] * 2 + [1, 1]
    assert rows.score_mask.sum(dim=1).tolist() == [3] * 4
