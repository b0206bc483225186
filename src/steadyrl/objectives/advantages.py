"""Advantages of responses relative to other responses to the same prompt.

Rows with equal `group_ids` form a group; groups may differ in size and be interleaved. Advantages
are exactly 0 if all rewards of a group are equal.
"""

from jaxtyping import Float, Int
from torch import Tensor

from steadyrl.base.errors import UserError
from steadyrl.objectives.grouping import Grouping


def group_mean(rewards: Float[Tensor, " B"], group_ids: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """A_i = R_i - mean(R), over the group of i.

    Source: arXiv:2512.01374, the advantage of equation 7.

    Raises:
        UserError: a group has one row only.
    """
    return _deviations(rewards, _comparable_groups(group_ids))


def group_mean_std(
    rewards: Float[Tensor, " B"], group_ids: Int[Tensor, " B"], *, epsilon: float = 1e-6
) -> Float[Tensor, " B"]:
    """A_i = (R_i - mean(R)) / (std(R) + epsilon), both over the group of i.

    std is the sample standard deviation (divisor G - 1), as in common implementations; the paper
    does not specify the divisor.

    Source: GRPO, arXiv:2402.03300, its section on outcome supervision.

    Raises:
        UserError: a group has one row only.
    """
    groups = _comparable_groups(group_ids)
    deviations = _deviations(rewards, groups)
    variances = groups.total(deviations.square()) / (groups.sizes - 1)
    return deviations / (variances.sqrt() + epsilon)


def leave_one_out(
    rewards: Float[Tensor, " B"], group_ids: Int[Tensor, " B"]
) -> Float[Tensor, " B"]:
    """A_i = R_i - mean(R_j, j != i) = G / (G - 1) (R_i - mean(R)), over the group of i.

    Source: RLOO, arXiv:2402.14740.

    Raises:
        UserError: a group has one row only.
    """
    groups = _comparable_groups(group_ids)
    return _deviations(rewards, groups) * groups.sizes / (groups.sizes - 1)


def _comparable_groups(group_ids: Int[Tensor, " B"]) -> Grouping:
    groups = Grouping.by(group_ids)
    lonely = group_ids[groups.sizes == 1].tolist()
    if lonely:
        raise UserError(
            "Advantages compare the responses to one prompt. Got a single response in "
            f"{len(lonely)} of {len(groups.ids)} groups, first in group {lonely[0]}. "
            "Sample at least 2 responses per prompt."
        )
    return groups


def _deviations(rewards: Float[Tensor, " B"], groups: Grouping) -> Float[Tensor, " B"]:
    # Subtract the smallest reward: a mean of equal rewards may be rounded, a mean of 0 is not.
    excess = rewards - groups.smallest(rewards)
    return excess - groups.total(excess) / groups.sizes
