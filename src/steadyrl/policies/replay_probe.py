"""Probe for routing replay: whether a model family replays experts correctly."""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Integer
from torch import Tensor
from transformers import PreTrainedModel

from steadyrl.base.errors import UserError
from steadyrl.policies.small_copy import FAILURES
from steadyrl.records.routing import PaddedRouting

if TYPE_CHECKING:
    from steadyrl.policies.routing import RoutingHook

MOST_LAYERS = 8
"""Maximum number of layers that are probed individually."""


@torch.no_grad()
def replay_unsupported_reason(model: PreTrainedModel, hook: "RoutingHook") -> str | None:
    """Why replay through the `hook` of `model` would be wrong; None if it is correct.

    Replaying the forward pass's own experts must reproduce the logits bitwise, replaying other
    experts in any one layer must change them, and every replayed expert must have a gate weight.
    """
    family = type(model).__name__
    choice = _choices_of_all(hook.num_experts, hook.experts_per_token).to(model.device)
    tokens = torch.arange(len(choice), device=model.device).remainder(17)[None]
    try:
        with hook.watch((1, len(choice))) as watch:
            live = model(input_ids=tokens, use_cache=False).logits
        own = watch.experts()
        if not torch.equal(_replayed(model, hook, tokens, own), live):
            return f"{family} computes something else when its own experts are replayed. {REMEDY}"
        for layer in range(0, hook.num_layers, -(-hook.num_layers // MOST_LAYERS)):
            other = own.clone()
            other[:, :, layer] = (other[:, :, layer] + 1) % hook.num_experts
            if torch.equal(_replayed(model, hook, tokens, other), live):
                return f"{family} computes the same whatever experts are replayed. {REMEDY}"
        if not _all_weighted(model, hook, tokens, choice):
            return (
                f"{family} gives an expert that is replayed a gate weight of 0 where its router "
                "would not have considered it, as outside the groups of experts that a token is "
                f"limited to, so that replay would switch the expert off. {REMEDY}"
            )
    except UserError:
        raise
    except FAILURES as error:
        return f"{family} fails when experts are replayed: {error} {REMEDY}"
    return None


REMEDY = "Use routing_replay none."


def _replayed(
    model: PreTrainedModel, hook: "RoutingHook", tokens: Tensor, experts: Integer[Tensor, "1 N L K"]
) -> Tensor:
    known = torch.ones(tokens.shape, dtype=torch.bool, device=tokens.device)
    replay = PaddedRouting(experts=experts, known=known)
    with hook.watch((1, tokens.shape[1]), replay=replay):
        return model(input_ids=tokens, use_cache=False).logits


def _all_weighted(
    model: PreTrainedModel, hook: "RoutingHook", tokens: Tensor, choice: Integer[Tensor, "N K"]
) -> bool:
    """Whether replay of every expert in every layer gives each a gate weight."""
    weights: list[Tensor] = []
    handles = [
        router.register_forward_hook(
            lambda _module, _args, output: weights.extend(
                part
                for part in output
                if isinstance(part, Tensor)
                and part.is_floating_point()
                and part.shape[-1:] == choice.shape[-1:]
            )
        )
        for router in hook.routers
    ]
    try:
        _replayed(model, hook, tokens, choice[None, :, None].expand(1, -1, hook.num_layers, -1))
    finally:
        for handle in handles:
            handle.remove()
    return all(bool((part.isfinite() & (part != 0)).all()) for part in weights)


def _choices_of_all(num_experts: int, experts_per_token: int) -> Integer[Tensor, "N K"]:
    """Choices of at least two tokens that together include every expert."""
    tokens = max(2, -(-num_experts // experts_per_token))
    numbers = torch.arange(tokens * experts_per_token) % num_experts
    return numbers.view(tokens, -1).flip(1)
