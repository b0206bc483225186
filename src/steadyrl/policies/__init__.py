"""Hugging Face causal language models as policies."""

from typing import TYPE_CHECKING

from steadyrl.base.lazy_exports import lazy_exports
from steadyrl.policies.model_settings import ModelSettings, Pretrained, SmallDense, SmallMoE

if TYPE_CHECKING:
    from steadyrl.policies.loading import load_model, load_tokenizer
    from steadyrl.policies.numerics import Numerics, WeightScaling
    from steadyrl.policies.policy import Policy
    from steadyrl.policies.routing import RoutingHook
    from steadyrl.policies.token_scores import TokenScores
    from steadyrl.policies.upcycling import UpcyclingSettings, upcycle

__all__ = [
    "ModelSettings",
    "Numerics",
    "Policy",
    "Pretrained",
    "RoutingHook",
    "SmallDense",
    "SmallMoE",
    "TokenScores",
    "UpcyclingSettings",
    "WeightScaling",
    "load_model",
    "load_tokenizer",
    "upcycle",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "load_model": "loading",
        "load_tokenizer": "loading",
        "Numerics": "numerics",
        "WeightScaling": "numerics",
        "Policy": "policy",
        "TokenScores": "token_scores",
        "RoutingHook": "routing",
        "UpcyclingSettings": "upcycling",
        "upcycle": "upcycling",
    },
)
