"""Error of an objective's gradient against that of the expected reward of whole responses."""

from steadyrl.analysis.first_order.gradient_error import Estimate, FirstOrderError
from steadyrl.analysis.first_order.probe import (
    Estimator,
    all_responses,
    exact_errors,
    policy_terms,
    sampled_errors,
    sequence_level,
    token_level,
)

__all__ = [
    "Estimate",
    "Estimator",
    "FirstOrderError",
    "all_responses",
    "exact_errors",
    "policy_terms",
    "sampled_errors",
    "sequence_level",
    "token_level",
]
