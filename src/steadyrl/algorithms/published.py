"""Which settings make which published algorithm. Everything else is as the recipe says."""

from typing import Literal

from steadyrl.algorithms.policy_gradient import (
    CISPO,
    GRPO,
    MiniRL,
    PolicyGradientSettings,
    Reinforce,
)
from steadyrl.objectives import Aggregation

PublishedName = Literal["minirl", "grpo", "cispo", "reinforce", "rloo"]

PUBLISHED: dict[PublishedName, PolicyGradientSettings] = {
    "minirl": PolicyGradientSettings(
        objective=MiniRL(), advantage="group_mean", aggregation=Aggregation.TOKEN_SUM
    ),
    "grpo": PolicyGradientSettings(
        objective=GRPO(), advantage="group_mean_std", aggregation=Aggregation.LENGTH_NORM
    ),
    "cispo": PolicyGradientSettings(
        objective=CISPO(), advantage="group_mean_std", aggregation=Aggregation.GROUP_TOKEN_MEAN
    ),
    "reinforce": PolicyGradientSettings(
        objective=Reinforce(), advantage="group_mean", aggregation=Aggregation.TOKEN_SUM
    ),
    "rloo": PolicyGradientSettings(
        objective=Reinforce(), advantage="leave_one_out", aggregation=Aggregation.TOKEN_SUM
    ),
}
