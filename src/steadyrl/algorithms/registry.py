"""Discriminated union of algorithm settings."""

from typing import Annotated

from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.algorithms.policy_gradient import PolicyGradientSettings
from steadyrl.algorithms.settings import AlgorithmSettings
from steadyrl.base.variants import Variants

AnyAlgorithm = Annotated[
    AlgorithmSettings,
    Variants(
        AlgorithmSettings, "steadyrl.algorithms", PolicyGradientSettings, ExperientialSettings
    ),
]
"""Settings of any algorithm."""
