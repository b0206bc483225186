"""The plan of passes over a batch: which rows share a pass, and what they compute once.

It is made once, before the first pass, from lengths, groups and tokens alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """Rows of a batch whose gradient is computed at the same time.

    Example:
        MicroBatch(rows=torch.tensor([4, 5, 6]), prefix_groups=torch.tensor([1, 1, 1]))
    """

    rows: Int[Tensor, " b"]
    """Indices into the batch."""

    prefix_groups: Int[Tensor, " b"] | None = None
    """Rows of one number compute once what they begin with. None: each row is computed whole."""

    teacher_prefix_groups: Int[Tensor, " b"] | None = None
    """The same for the rows under the prompt of the teacher, where the batch has one."""

    def __len__(self) -> int:
        return len(self.rows)


def least_saving(share_prefixes: Literal["auto", "always", "never"], policy: Policy) -> float:
    """Share of the positions above which `policy` computes once what rows begin with.

    Raises:
        UserError: it always should, and cannot.
    """
    if share_prefixes == "never":
        return 1.0
    reason = policy.sharing_unsupported_reason()
    if share_prefixes == "auto":
        return LEAST_SAVING if reason is None else 1.0
    if reason is not None:
        raise UserError(
            "learner.share_prefixes is 'always', but the model cannot compute once what rows "
            f"begin with. {reason} Set it to 'auto' or 'never'."
        )
    return 0.0


def plan_micro_batches(
    batch: TokenBatch,
    rows: Int[Tensor, " n"],
    max_pass_positions: int,
    *,
    pass_cost: int,
    least_saving: float,
    whole_responses: bool = False,
) -> list[MicroBatch]:
    """The micro-batches of `rows`, each row in one of them.

    Groups stay together where computing once what they begin with saves more than `least_saving`
    of the positions; rows of like length otherwise.

    Args:
        max_pass_positions: Maximum positions of a micro-batch, padding included. Groups are
            cut into passes that have little of it, which does not count.
        pass_cost: Positions that take as long as one more pass.
        whole_responses: Rows of one response stay together before all else, and beyond
            `max_pass_positions` if need be.
    """
    if not len(rows):
        return []
    chosen = _Rows.of(batch, rows, least_saving)
    teacher = None if batch.teacher is None else _Rows.of(batch.teacher, rows, least_saving)
    everything = torch.arange(len(rows))
    if whole_responses and batch.responses < len(batch):
        plan: Sequence[Tensor] = _by_response(
            chosen.lengths, batch.response_ids[rows], max_pass_positions
        )
    elif chosen.saving(everything) > least_saving:
        plan = _by_group(chosen, max_pass_positions)
    else:
        plan = plan_passes(chosen.lengths, max_pass_positions, pass_cost=pass_cost)
    return [
        MicroBatch(
            rows=rows[index],
            prefix_groups=chosen.that_share(index, least_saving),
            teacher_prefix_groups=None
            if teacher is None
            else teacher.that_share(index, least_saving),
        )
        for index in plan
    ]


def of_equal_number(plan: Sequence[MicroBatch], number: int) -> list[MicroBatch]:
    """`plan` with empty micro-batches at its end, `number` in all.

    Ranks that hold shards of one model must run equally many passes; `number` is the largest among
    them.

    Raises:
        ValueError: the plan has more.
    """
    if len(plan) > number:
        raise ValueError(f"The plan has {len(plan)} micro-batches, more than {number}.")
    empty = MicroBatch(rows=torch.zeros(0, dtype=torch.long))
    return [*plan, *[empty] * (number - len(plan))]


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows to be planned: their lengths, and how much of each its whole group begins with."""

    lengths: Int[Tensor, " n"]
    shared: Int[Tensor, " n"]
    groups: Int[Tensor, " n"]

    @classmethod
    def of(cls, batch: TokenBatch, rows: Int[Tensor, " n"], least_saving: float) -> "_Rows":
        lengths, groups = batch.lengths[rows], batch.group_ids[rows]
        if least_saving >= 1:  # nothing is ever shared
            return cls(lengths, torch.zeros_like(lengths), groups)
        shared = shared_lengths(batch.tokens[rows], batch.attention_mask[rows], groups)
        return cls(lengths, shared, groups)

    def saving(self, index: Int[Tensor, " b"]) -> float:
        """Share of the positions of `index` that need not be computed if shared ones are once."""
        group, sizes = self.groups[index].unique(return_inverse=True, return_counts=True)[1:]
        copies = self.shared[index] * (sizes - 1)[group] / sizes[group]
        return float(copies.sum() / self.lengths[index].sum())

    def that_share(self, index: Int[Tensor, " b"], least_saving: float) -> Tensor | None:
        """The groups of `index`, if sharing saves enough among them."""
        return self.groups[index] if self.saving(index) > least_saving else None


def _by_response(
    lengths: Int[Tensor, " B"], response_ids: Int[Tensor, " B"], max_pass_positions: int
) -> list[Int[Tensor, " _"]]:
    """Response after response, those with the longest rows first, as long as there is room."""
    ids, response = response_ids.unique(return_inverse=True)
    longest = lengths.new_zeros(len(ids)).scatter_reduce(0, response, lengths, "amax")
    plan: list[Int[Tensor, " _"]] = []
    width = 0
    for number in longest.argsort(descending=True, stable=True).tolist():
        own = (response == number).nonzero().flatten()
        if plan and (len(plan[-1]) + len(own)) * width <= max_pass_positions:
            plan[-1] = torch.cat([plan[-1], own])
        else:
            plan.append(own)
            width = int(longest[number])
    return plan


def _by_group(rows: _Rows, max_pass_positions: int) -> list[Int[Tensor, " _"]]:
    """Row after row, one group after the other, as long as there is room."""
    order = rows.groups.argsort(stable=True)
    cuts, positions, previous = [], 0, None
    for place, row in enumerate(order.tolist()):
        length, beginning, group = (
            int(values[row]) for values in (rows.lengths, rows.shared, rows.groups)
        )
        positions += length - beginning if group == previous else length
        if place and positions > max_pass_positions:
            cuts.append(place)
            positions = length
        previous = group
    return [*order.tensor_split(cuts)]
