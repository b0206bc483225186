"""Routing of TRL's rollouts: laid out over its padded rows, and through its shuffles and splits."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from steadyrl.base.errors import UserError
from steadyrl.policies.routing import RoutingHook
from steadyrl.records.routing import Routing, join_routing


def padded_rows(
    prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]
) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
    """Tokens and attention mask as TRL pads them: prompts on the left, completions on the right."""
    before, after = max(map(len, prompts)), max(map(len, completions))
    rows, masks = [], []
    for prompt, completion in zip(prompts, completions, strict=True):
        tokens = torch.tensor([*prompt, *completion])
        padding = (before - len(prompt), after - len(completion))
        rows.append(nn.functional.pad(tokens, padding))
        masks.append(nn.functional.pad(torch.ones_like(tokens), padding))
    return torch.stack(rows), torch.stack(masks)


def reported_routing(
    experts: Sequence[Any],
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    hook: RoutingHook,
) -> Routing:
    """Routing that a `rollout_func` returned as `routed_experts`.

    Args:
        experts: Per completion, the experts at all tokens of prompt and completion but the last, of
            shape (tokens - 1, layers, experts per token).

    Raises:
        UserError: a shape differs.
    """
    tokens, mask = padded_rows(prompts, completions)
    last = mask.cumsum(dim=1) == mask.sum(dim=1, keepdim=True)
    known = mask.bool() & ~last
    rows = [torch.as_tensor(row) for row in experts]
    expected = [(int(count), hook.num_layers, hook.experts_per_token) for count in known.sum(dim=1)]
    for number, (row, shape) in enumerate(zip(rows, expected, strict=True)):
        if tuple(row.shape) != shape:
            raise UserError(
                f"routed_experts of completion {number} have shape {tuple(row.shape)}, expected "
                f"(tokens - 1, layers, experts per token) = {shape}. Return the experts at every "
                "token of prompt and completion but the last."
            )
    padded = torch.zeros(*tokens.shape, *expected[0][1:], dtype=hook.dtype)
    padded[known] = torch.cat(rows).to(hook.dtype)
    return Routing.of(padded, known, tokens)


def to_rows(routing: Routing) -> list[Routing]:
    """One routing for each row: TRL shuffles, splits and reuses lists along with its tensors."""
    length = routing.known.shape[1]
    return [routing.rows(torch.tensor([row]), length) for row in range(len(routing.known))]


def from_rows(rows: Sequence[Routing]) -> Routing:
    """Inverse of `to_rows`."""
    parts = [(torch.tensor([number]), row) for number, row in enumerate(rows)]
    return join_routing(parts, rows[0].known.shape[1])
