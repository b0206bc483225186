"""Plan of the passes over a batch: which rows share a pass, and which prefixes are computed once.

The plan is made before the first pass and only depends on lengths, groups and tokens.
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
"""Minimum share of positions saved by sharing, which costs further passes and attention masks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """Rows of a batch whose gradient is computed at the same time.

    Example:
        MicroBatch(rows=torch.tensor([4, 5, 6]), prefix_groups=torch.tensor([1, 1, 1]))
    """

    rows: Int[Tensor, " b"]
    """Indices into the batch."""

    prefix_groups: Int[Tensor, " b"] | None = None
    """Rows with equal numbers share the computation of their common prefix. None: no sharing."""

    teacher_prefix_groups: Int[Tensor, " b"] | None = None
    """The same for the rows with the teacher's prompt, if the batch has one."""

    def __len__(self) -> int:
        return len(self.rows)


def least_saving(share_prefixes: Literal["auto", "always", "never"], policy: Policy) -> float:
    """Minimum share of positions saved at which `policy` shares common prefixes.

    Raises:
        UserError: the settings require sharing, but the model does not support it.
    """
    if share_prefixes == "never":
        return 1.0
    reason = policy.sharing_unsupported_reason()
    if share_prefixes == "auto":
        return LEAST_SAVING if reason is None else 1.0
    if reason is not None:
        raise UserError(
            "learner.share_prefixes is 'always', but the model cannot share common prefixes. "
            f"{reason} Set it to 'auto' or 'never'."
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
    """Splits `rows` into micro-batches.

    Rows of a group stay together if sharing their prefix saves more than `least_saving` of the
    positions. Otherwise rows of similar length share a micro-batch.

    Args:
        max_pass_positions: Maximum positions of a micro-batch, including padding. The little
            padding of rows that share a prefix is not counted.
        pass_cost: Overhead of a pass, in positions of equal duration.
        whole_responses: Rows of one response always stay together, even beyond
            `max_pass_positions`.
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


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows to plan: their lengths, groups, and lengths of the prefix shared by their group."""

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
        """Share of the positions of rows `index` that sharing saves."""
        group, sizes = self.groups[index].unique(return_inverse=True, return_counts=True)[1:]
        copies = self.shared[index] * (sizes - 1)[group] / sizes[group]
        return float(copies.sum() / self.lengths[index].sum())

    def that_share(self, index: Int[Tensor, " b"], least_saving: float) -> Tensor | None:
        """Groups of the rows `index` if sharing saves enough; None otherwise."""
        return self.groups[index] if self.saving(index) > least_saving else None


def _by_response(
    lengths: Int[Tensor, " B"], response_ids: Int[Tensor, " B"], max_pass_positions: int
) -> list[Int[Tensor, " _"]]:
    """Fills micro-batches with whole responses, longest rows first."""
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
    """Fills micro-batches with rows, group by group."""
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
