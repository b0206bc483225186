"""Per-token objectives, advantages, aggregation and diagnostics.

A loss combines three choices: `advantages`, an objective, and an `aggregation`. A correction or a
penalty wraps the objective. This package does not depend on models or environments.
"""

from steadyrl.objectives.advantages import group_mean, group_mean_std, leave_one_out
from steadyrl.objectives.aggregation import Aggregation, aggregate, token_weights
from steadyrl.objectives.cispo import CISPO
from steadyrl.objectives.clipping import ClipMasks
from steadyrl.objectives.corrections import Masking, MismatchLevel, NoCorrection, Truncation
from steadyrl.objectives.diagnostics import (
    clip_diagnostics,
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
from steadyrl.objectives.dppo import DPPO, Divergence
from steadyrl.objectives.dual_clip import DualClip
from steadyrl.objectives.grpo import GRPO
from steadyrl.objectives.gspo import GSPO
from steadyrl.objectives.gspo_token import GSPOToken
from steadyrl.objectives.kl import k1, k3
from steadyrl.objectives.minirl import MiniRL
from steadyrl.objectives.nll import NLL
from steadyrl.objectives.objective import Objective
from steadyrl.objectives.reference import ReferenceEstimator, ReferenceKL, reference_divergence
from steadyrl.objectives.reinforce import Reinforce
from steadyrl.objectives.rspo import RSPO
from steadyrl.objectives.score_centering import ScoreCentering
from steadyrl.objectives.terms import CandidateTerms, TokenTerms

__all__ = [
    "CISPO",
    "DPPO",
    "GRPO",
    "GSPO",
    "NLL",
    "RSPO",
    "Aggregation",
    "CandidateTerms",
    "ClipMasks",
    "Divergence",
    "DualClip",
    "GSPOToken",
    "Masking",
    "MiniRL",
    "MismatchLevel",
    "NoCorrection",
    "Objective",
    "ReferenceEstimator",
    "ReferenceKL",
    "Reinforce",
    "RoutingDisagreement",
    "ScoreCentering",
    "TokenTerms",
    "Truncation",
    "aggregate",
    "clip_diagnostics",
    "group_mean",
    "group_mean_std",
    "k1",
    "k3",
    "leave_one_out",
    "mismatch_diagnostics",
    "reference_diagnostics",
    "reference_divergence",
    "routing_disagreement",
    "sampling_diagnostics",
    "sets_differ",
    "staleness_diagnostics",
    "temperature_diagnostics",
    "token_weights",
    "weight_diagnostics",
]
