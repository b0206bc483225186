"""Objectives: what is maximised, token by token, and how far it can be trusted.

A loss is made of three choices: `advantages`, an objective, and an `aggregation`; `corrections`
may weigh the objective's tokens.
Nothing here knows of models or environments.
"""

from steadyrl.objectives.advantages import group_mean, group_mean_std, leave_one_out
from steadyrl.objectives.aggregation import Aggregation, aggregate, token_weights
from steadyrl.objectives.cispo import cispo
from steadyrl.objectives.corrections import (
    MismatchLevel,
    corrected,
    masked_mismatch,
    truncated_mismatch,
)
from steadyrl.objectives.diagnostics import (
    RoutingDisagreement,
    clip_diagnostics,
    mismatch_diagnostics,
    reference_diagnostics,
    routing_disagreement,
    sampling_diagnostics,
    staleness_diagnostics,
    temperature_diagnostics,
    weight_diagnostics,
)
from steadyrl.objectives.dppo import Divergence, dppo
from steadyrl.objectives.dual_clip import dual_clip
from steadyrl.objectives.grpo import grpo
from steadyrl.objectives.gspo import gspo, gspo_token
from steadyrl.objectives.kl import k1, k3
from steadyrl.objectives.minirl import minirl
from steadyrl.objectives.nll import nll
from steadyrl.objectives.reference import ReferenceEstimator, penalized, reference_divergence
from steadyrl.objectives.reinforce import reinforce
from steadyrl.objectives.terms import TokenTerms

__all__ = [
    "Aggregation",
    "Divergence",
    "MismatchLevel",
    "ReferenceEstimator",
    "RoutingDisagreement",
    "TokenTerms",
    "aggregate",
    "cispo",
    "clip_diagnostics",
    "corrected",
    "dppo",
    "dual_clip",
    "group_mean",
    "group_mean_std",
    "grpo",
    "gspo",
    "gspo_token",
    "k1",
    "k3",
    "leave_one_out",
    "masked_mismatch",
    "minirl",
    "mismatch_diagnostics",
    "nll",
    "penalized",
    "reference_diagnostics",
    "reference_divergence",
    "reinforce",
    "routing_disagreement",
    "sampling_diagnostics",
    "staleness_diagnostics",
    "temperature_diagnostics",
    "token_weights",
    "truncated_mismatch",
    "weight_diagnostics",
]
