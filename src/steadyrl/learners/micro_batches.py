"""Cutting a batch into micro-batches: of rows of like length, or of rows that belong together."""

from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from steadyrl.base.errors import UserError
from steadyrl.policies.passes import plan_passes
from steadyrl.policies.policy import Policy
from steadyrl.policies.shared_prefixes import shared_lengths
from steadyrl.records.token_batch import TokenBatch

LEAST_SAVING = 0.25
"""Share of the positions that must be saved: sharing costs passes, and masks for attention."""


def least_saving(share_prefixes: Literal["auto", "always", "never"], policy: Policy) -> float:
    """Share of the positions above which `policy` computes once what rows begin with.

    Raises:
        UserError: it always should, and cannot.
    """
    if share_prefixes == "never":
        return 1.0
    obstacle = policy.obstacle_to_sharing()
    if share_prefixes == "auto":
        return LEAST_SAVING if obstacle is None else 1.0
    if obstacle is not None:
        raise UserError(
            "learner.share_prefixes is 'always', but the model cannot compute once what rows "
            f"begin with. {obstacle} Set it to 'auto' or 'never'."
        )
    return 0.0


def plan_micro_batches(
    batch: TokenBatch,
    rows: Int[Tensor, " n"],
    most_positions: int,
    *,
    pass_cost: int,
    least_saving: float,
    whole_responses: bool = False,
) -> list[Int[Tensor, " _"]]:
    """The rows of each micro-batch of `rows`.

    Groups stay together where computing once what they begin with saves more than `least_saving`
    of the positions; rows of like length otherwise.

    Args:
        most_positions: That a micro-batch computes, padding included. Groups are cut into passes
            that have little of it, which does not count.
        whole_responses: Rows of one response stay together before all else, and beyond
            `most_positions` if need be.
    """
    lengths, prefix_groups = batch.lengths[rows], batch.group_ids[rows]
    if whole_responses and batch.responses < len(batch):
        plan = _by_response(lengths, batch.response_ids[rows], most_positions)
        return [rows[index] for index in plan]
    if len(rows) and least_saving < 1:
        shared = shared_lengths(batch.tokens[rows], batch.attention_mask[rows], prefix_groups)
        if _saving(lengths, shared, prefix_groups) > least_saving:
            plan = _by_group(lengths, shared, prefix_groups, most_positions)
            return [rows[index] for index in plan]
    plan = plan_passes(lengths, most_positions, pass_cost=pass_cost)
    return [rows[index] for index in plan]


def _by_response(
    lengths: Int[Tensor, " B"], response_ids: Int[Tensor, " B"], most_positions: int
) -> list[Int[Tensor, " _"]]:
    """Response after response, those with the longest rows first, as long as there is room."""
    ids, response = response_ids.unique(return_inverse=True)
    longest = lengths.new_zeros(len(ids)).scatter_reduce(0, response, lengths, "amax")
    plan: list[Int[Tensor, " _"]] = []
    width = 0
    for number in longest.argsort(descending=True, stable=True).tolist():
        own = (response == number).nonzero().flatten()
        if plan and (len(plan[-1]) + len(own)) * width <= most_positions:
            plan[-1] = torch.cat([plan[-1], own])
        else:
            plan.append(own)
            width = int(longest[number])
    return plan


def saves_enough(batch: TokenBatch, least_saving: float) -> bool:
    """Whether computing once what rows begin with saves more than `least_saving`."""
    if least_saving >= 1:
        return False
    shared = shared_lengths(batch.tokens, batch.attention_mask, batch.group_ids)
    return _saving(batch.lengths, shared, batch.group_ids) > least_saving


def _saving(
    lengths: Int[Tensor, " B"], shared: Int[Tensor, " B"], prefix_groups: Int[Tensor, " B"]
) -> float:
    """Share of the positions that need not be computed when those that are shared are once."""
    group, sizes = prefix_groups.unique(return_inverse=True, return_counts=True)[1:]
    copies = shared * (sizes - 1)[group] / sizes[group]
    return float(copies.sum() / lengths.sum())


def _by_group(
    lengths: Int[Tensor, " B"],
    shared: Int[Tensor, " B"],
    prefix_groups: Int[Tensor, " B"],
    most_positions: int,
) -> list[Int[Tensor, " _"]]:
    """Row after row, one group after the other, as long as there is room."""
    order = prefix_groups.argsort(stable=True)
    cuts, positions, previous = [], 0, None
    for place, row in enumerate(order.tolist()):
        length, beginning, group = int(lengths[row]), int(shared[row]), int(prefix_groups[row])
        positions += length - beginning if group == previous else length
        if place and positions > most_positions:
            cuts.append(place)
            positions = length
        previous = group
    return [*order.tensor_split(cuts)]
