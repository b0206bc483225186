"""Routing is recorded and replayed over the forward passes of any loop, `generate` included."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from steadyrl.base.errors import UserError
from steadyrl.policies.policy import Policy
from steadyrl.policies.routing import RoutingHook
from steadyrl.records.routing import Routing
from tests.closeness import assert_close
from tests.policies.families import FAMILIES

PROMPTS = torch.tensor([[0, 0, 5, 6], [7, 8, 9, 3]])
PROMPT_MASK = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])


@pytest.fixture
def model(moe_policy: Policy) -> PreTrainedModel:
    assert moe_policy.hook is not None
    moe_policy.hook.remove()
    return moe_policy.model


@pytest.fixture
def hook(model: PreTrainedModel) -> RoutingHook:
    return RoutingHook(model, verify=False)


def generated(model: PreTrainedModel, hook: RoutingHook) -> tuple[Tensor, Tensor, Routing]:
    """Tokens of two left-padded rows, their mask, and the routing of their generation."""
    torch.manual_seed(0)
    with hook.record() as rollout:
        tokens = model.generate(
            PROMPTS,
            attention_mask=PROMPT_MASK,
            do_sample=True,
            max_new_tokens=5,
            min_new_tokens=5,
            pad_token_id=0,
        )
    mask = torch.nn.functional.pad(PROMPT_MASK, (0, 5), value=1)
    return tokens, mask, rollout.routing(tokens, mask)


def logits_of(model: PreTrainedModel, tokens: Tensor, mask: Tensor) -> Tensor:
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    return model(input_ids=tokens, attention_mask=mask, position_ids=positions).logits


def test_generation_is_recorded_at_every_token_that_it_fed(
    model: PreTrainedModel, hook: RoutingHook
) -> None:
    tokens, mask, routing = generated(model, hook)
    with hook.record() as whole, torch.no_grad():
        logits_of(model, tokens, mask)

    assert routing.known.tolist() == [[False] * 2 + [True] * 6 + [False], [True] * 8 + [False]]
    expected = whole.routing(tokens, mask)
    assert torch.equal(routing.at(routing.known), expected.at(routing.known))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_replay_uses_the_recorded_experts_in_every_family(family: str) -> None:
    torch.manual_seed(0)
    model = FAMILIES[family]().eval()
    hook = RoutingHook(model)
    tokens, mask, routing = generated(model, hook)
    model.train()
    for parameter in model.parameters():  # other weights, other routes
        parameter.data += 0.3 * torch.randn_like(parameter)
    with hook.replay(routing, mask) as used:
        logits_of(model, tokens, mask)
    with hook.record() as live:
        logits_of(model, tokens, mask)

    assert torch.equal(used.routing(tokens, mask).at(routing.known), routing.at(routing.known))
    assert not torch.equal(live.routing(tokens, mask).at(routing.known), routing.at(routing.known))


def test_rows_can_be_replayed_in_batches(model: PreTrainedModel, hook: RoutingHook) -> None:
    tokens, mask, routing = generated(model, hook)
    with torch.no_grad():
        with hook.replay(routing, mask):
            at_once = logits_of(model, tokens, mask)
        with hook.replay(routing, mask) as used:
            rows = [logits_of(model, tokens[i : i + 1], mask[i : i + 1]) for i in range(2)]

    assert_close(torch.cat(rows)[mask.bool()], at_once[mask.bool()])
    assert torch.equal(used.routing(tokens, mask).at(routing.known), routing.at(routing.known))


def test_routes_shifted_by_a_position_are_refused(
    model: PreTrainedModel, hook: RoutingHook
) -> None:
    tokens, mask, routing = generated(model, hook)
    shifted = replace(routing, known=routing.known.roll(1, dims=1))

    with (
        pytest.raises(RuntimeError, match=r"other tokens than it is replayed on, in rows \[0, 1\]"),
        hook.replay(shifted, mask),
    ):
        logits_of(model, tokens, mask)


def test_swapped_rows_are_refused(model: PreTrainedModel, hook: RoutingHook) -> None:
    tokens, mask, routing = generated(model, hook)

    with (
        pytest.raises(RuntimeError, match=r"other tokens than it is replayed on, in rows \[0, 1\]"),
        hook.replay(routing, mask),
    ):
        logits_of(model, tokens.flip(0), mask.flip(0))


def test_a_record_is_not_given_for_other_tokens(model: PreTrainedModel, hook: RoutingHook) -> None:
    tokens, mask, _ = generated(model, hook)
    with hook.record() as whole, torch.no_grad():
        logits_of(model, tokens, mask)

    with pytest.raises(RuntimeError, match=r"recorded on other tokens than these, in rows \[1\]"):
        whole.routing(tokens + torch.tensor([[0], [1]]), mask)


@pytest.mark.parametrize(
    ("rows", "message"), [(1, "of 2 rows was replayed on 1"), (3, "of 2 rows is replayed on 3")]
)
def test_every_row_is_replayed_once(
    model: PreTrainedModel, hook: RoutingHook, rows: int, message: str
) -> None:
    tokens, mask, routing = generated(model, hook)

    def replay_rows() -> None:
        with hook.replay(routing, mask):
            for row in [0, 1, 1][:rows]:
                logits_of(model, tokens[row : row + 1], mask[row : row + 1])

    with pytest.raises(RuntimeError, match=message):
        replay_rows()


def test_beams_are_refused(model: PreTrainedModel, hook: RoutingHook) -> None:
    with hook.record() as rollout:
        tokens = model.generate(PROMPTS, num_beams=2, max_new_tokens=3, do_sample=False)

    with pytest.raises(UserError, match="without beams and assistant models"):
        rollout.routing(tokens, torch.ones_like(tokens))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_recomputation_after_the_context_replays_the_same_experts(
    model: PreTrainedModel, hook: RoutingHook, checkpointing: bool
) -> None:
    tokens, mask, routing = generated(model, hook)
    other = Routing.of(1 - routing.padded().experts.clamp(max=1), routing.known, tokens)
    model.train()
    with hook.replay(other, mask):
        expected = torch.autograd.grad(
            logits_of(model, tokens, mask).sum(), list(model.parameters())
        )
    if checkpointing:
        model.activation_checkpointing_enable()
    with hook.replay(other, mask):
        total = logits_of(model, tokens, mask).sum()
    found = torch.autograd.grad(total, list(model.parameters()))

    names = [name for name, _ in model.named_parameters()]
    assert_close(
        dict(zip(names, found, strict=True)), dict(zip(names, expected, strict=True)), terms=1024
    )


def test_reentrant_checkpointing_is_refused(model: PreTrainedModel, hook: RoutingHook) -> None:
    model.train()
    model.activation_checkpointing_enable({"use_reentrant": True})

    with pytest.raises(UserError, match="Set use_reentrant to False"), hook.record():
        pass
