"""A watch refuses what did not go as it should have gone."""

from dataclasses import replace

import pytest
import torch

from steadyrl.policies.policy import Policy
from steadyrl.records.routing import PaddedRouting


def watched(
    policy: Policy, tokens: int, *, announced: int, replay: PaddedRouting | None = None
) -> None:
    """Feeds `tokens` tokens where `announced` are expected."""
    assert policy.hook is not None
    with policy.hook.watch((1, announced), replay=replay), torch.no_grad():
        policy.model(input_ids=torch.arange(tokens)[None], use_cache=False)


def some_routing(policy: Policy, tokens: int) -> PaddedRouting:
    assert policy.hook is not None
    return PaddedRouting(
        experts=torch.arange(2).expand(1, tokens, policy.hook.num_layers, 2),
        known=torch.ones(1, tokens, dtype=torch.bool),
    )


def test_another_number_of_tokens_than_announced_is_refused(moe_policy: Policy) -> None:
    watched(moe_policy, 3, announced=3)
    with pytest.raises(RuntimeError, match="MoE layer 0 routed 3 tokens, expected 2"):
        watched(moe_policy, 3, announced=2)


def test_replay_over_another_number_of_tokens_is_refused(moe_policy: Policy) -> None:
    routing = some_routing(moe_policy, 2)
    watched(moe_policy, 2, announced=2, replay=routing)
    with pytest.raises(RuntimeError, match=r"answered 0 top-k calls in MoE layer 0, expected 1"):
        watched(moe_policy, 3, announced=2, replay=routing)


def test_experts_that_were_not_used_as_replayed_are_noticed(moe_policy: Policy) -> None:
    assert moe_policy.hook is not None
    routing = some_routing(moe_policy, 2)
    watching = moe_policy.hook.watch((1, 2), replay=routing)
    watch = watching.__enter__()
    with torch.no_grad():
        moe_policy.model(input_ids=torch.arange(2)[None], use_cache=False)
    watch.replay = replace(routing, experts=routing.experts + 1)
    with pytest.raises(RuntimeError, match="Experts used differ from the experts replayed"):
        watching.__exit__(None, None, None)
