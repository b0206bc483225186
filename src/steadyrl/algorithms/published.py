"""Settings of published algorithms. Everything else follows the recipe."""

from typing import Literal

from steadyrl.algorithms.policy_gradient import PolicyGradientSettings
from steadyrl.objectives import (
    CISPO,
    DPPO,
    GRPO,
    GSPO,
    RSPO,
    Aggregation,
    Divergence,
    DualClip,
    GSPOToken,
    Masking,
    MiniRL,
    MismatchLevel,
    Reinforce,
    ScoreCentering,
    Truncation,
)

PublishedName = Literal[
    "minirl",
    "grpo",
    "grpo_tis",
    "grpo_sequence_mis",
    "icepop",
    "dapo",
    "dr_grpo",
    "dual_clip",
    "gspo",
    "gspo_token",
    "rspo",
    "cispo",
    "dppo_tv",
    "dppo_kl",
    "reinforce",
    "rloo",
    "score_centering",
]

PUBLISHED: dict[PublishedName, PolicyGradientSettings] = {
    "minirl": PolicyGradientSettings(
        objective=MiniRL(), advantage="group_mean", aggregation=Aggregation.TOKEN_SUM
    ),
    "grpo": PolicyGradientSettings(
        objective=GRPO(), advantage="group_mean_std", aggregation=Aggregation.LENGTH_NORM
    ),
    "grpo_tis": PolicyGradientSettings(
        objective=GRPO(),
        correction=Truncation(level=MismatchLevel.TOKEN, cap=2.0),
        advantage="group_mean_std",
        aggregation=Aggregation.LENGTH_NORM,
    ),
    "grpo_sequence_mis": PolicyGradientSettings(
        objective=GRPO(),
        correction=Masking(level=MismatchLevel.SEQUENCE_PRODUCT, low=0.0, high=2.0),
        advantage="group_mean_std",
        aggregation=Aggregation.LENGTH_NORM,
    ),
    "icepop": PolicyGradientSettings(
        objective=GRPO(),
        correction=Masking(level=MismatchLevel.TOKEN, low=0.5, high=5.0),
        advantage="group_mean_std",
        aggregation=Aggregation.LENGTH_NORM,
    ),
    "dapo": PolicyGradientSettings(
        objective=GRPO(clip_low=0.2, clip_high=0.28),
        advantage="group_mean_std",
        aggregation=Aggregation.GROUP_TOKEN_MEAN,
    ),
    "dr_grpo": PolicyGradientSettings(
        objective=GRPO(clip_low=0.2, clip_high=0.2),
        advantage="group_mean",
        aggregation=Aggregation.CONSTANT,
        constant_length=3000,  # the longest response in its experiments
    ),
    "dual_clip": PolicyGradientSettings(
        objective=DualClip(), advantage="group_mean_std", aggregation=Aggregation.TOKEN_MEAN
    ),
    "gspo": PolicyGradientSettings(
        objective=GSPO(), advantage="group_mean_std", aggregation=Aggregation.LENGTH_NORM
    ),
    "gspo_token": PolicyGradientSettings(
        objective=GSPOToken(), advantage="group_mean_std", aggregation=Aggregation.LENGTH_NORM
    ),
    "rspo": PolicyGradientSettings(
        objective=RSPO(), advantage="group_mean_std", aggregation=Aggregation.LENGTH_NORM
    ),
    "cispo": PolicyGradientSettings(
        objective=CISPO(), advantage="group_mean_std", aggregation=Aggregation.GROUP_TOKEN_MEAN
    ),
    "dppo_tv": PolicyGradientSettings(
        objective=DPPO(divergence=Divergence.TOTAL_VARIATION, threshold=0.15),
        advantage="group_mean",
        aggregation=Aggregation.TOKEN_SUM,
    ),
    "dppo_kl": PolicyGradientSettings(
        objective=DPPO(divergence=Divergence.KL, threshold=0.05),
        advantage="group_mean",
        aggregation=Aggregation.TOKEN_SUM,
    ),
    "reinforce": PolicyGradientSettings(
        objective=Reinforce(), advantage="group_mean", aggregation=Aggregation.TOKEN_SUM
    ),
    "rloo": PolicyGradientSettings(
        objective=Reinforce(), advantage="leave_one_out", aggregation=Aggregation.TOKEN_SUM
    ),
    "score_centering": PolicyGradientSettings(
        objective=Reinforce(),
        correction=ScoreCentering(),
        advantage="group_mean",
        aggregation=Aggregation.TOKEN_SUM,
    ),
}
