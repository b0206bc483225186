"""Algorithms plan rollouts and learn from them: policy gradient, ERL and cold starts."""

from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.algorithms.memory import MemorySettings
from steadyrl.algorithms.policy_gradient import CreditSettings, PolicyGradientSettings
from steadyrl.algorithms.protocol import Algorithm, Experience, Plan, Rollout
from steadyrl.algorithms.published import PUBLISHED
from steadyrl.algorithms.reflection import ReflectionSettings, Reflector
from steadyrl.algorithms.settings import AlgorithmContext, AlgorithmSettings

__all__ = [
    "PUBLISHED",
    "Algorithm",
    "AlgorithmContext",
    "AlgorithmSettings",
    "CreditSettings",
    "Experience",
    "ExperientialSettings",
    "MemorySettings",
    "Plan",
    "PolicyGradientSettings",
    "ReflectionSettings",
    "Reflector",
    "Rollout",
]
