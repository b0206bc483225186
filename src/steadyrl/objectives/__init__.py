"""Objectives: what is maximised, token by token, and how far it can be trusted.

A loss is made of three choices: `advantages`, an objective, and an `aggregation`; `corrections`
may weigh the objective's tokens.
Nothing here knows of models or environments.
"""

from steadyrl.objectives.advantages import group_mean, group_mean_std, leave_one_out
from steadyrl.objectives.aggregation import Aggregation, aggregate, token_weights
from steadyrl.objectives.cispo import cispo, cispo_limits
from steadyrl.objectives.corrections import (
    MismatchLevel,
    corrected,
    masked_mismatch,
    masking_limits,
    truncated_mismatch,
    truncation_limits,
)
from steadyrl.objectives.diagnostics import (
    limit_diagnostics,
    mismatch_diagnostics,
    reference_diagnostics,
    sampling_diagnostics,
    staleness_diagnostics,
    temperature_diagnostics,
    weight_diagnostics,
)
from steadyrl.objectives.disagreement import (
    RoutingDisagreement,
    routing_disagreement,
    sets_differ,
)
from steadyrl.objectives.dppo import Divergence, dppo, dppo_limits
from steadyrl.objectives.dual_clip import dual_clip, dual_clip_limits
from steadyrl.objectives.grpo import grpo, grpo_limits
from steadyrl.objectives.gspo import gspo, gspo_limits, gspo_token
from steadyrl.objectives.kl import k1, k3
from steadyrl.objectives.limits import Limited, unlimited
from steadyrl.objectives.minirl import minirl, minirl_limits
from steadyrl.objectives.nll import nll
from steadyrl.objectives.reference import ReferenceEstimator, penalized, reference_divergence
from steadyrl.objectives.reinforce import reinforce
from steadyrl.objectives.terms import TokenTerms

__all__ = [
    "Aggregation",
    "Divergence",
    "Limited",
    "MismatchLevel",
    "ReferenceEstimator",
    "RoutingDisagreement",
    "TokenTerms",
    "aggregate",
    "cispo",
    "cispo_limits",
    "corrected",
    "dppo",
    "dppo_limits",
    "dual_clip",
    "dual_clip_limits",
    "group_mean",
    "group_mean_std",
    "grpo",
    "grpo_limits",
    "gspo",
    "gspo_limits",
    "gspo_token",
    "k1",
    "k3",
    "leave_one_out",
    "limit_diagnostics",
    "masked_mismatch",
    "masking_limits",
    "minirl",
    "minirl_limits",
    "mismatch_diagnostics",
    "nll",
    "penalized",
    "reference_diagnostics",
    "reference_divergence",
    "reinforce",
    "routing_disagreement",
    "sampling_diagnostics",
    "sets_differ",
    "staleness_diagnostics",
    "temperature_diagnostics",
    "token_weights",
    "truncated_mismatch",
    "truncation_limits",
    "unlimited",
    "weight_diagnostics",
]
