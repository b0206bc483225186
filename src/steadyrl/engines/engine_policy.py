"""A policy that scores in the numerics of a rollout engine."""

from steadyrl.engines.engine_model import EngineModel
from steadyrl.policies.float32_head import HeadDtype
from steadyrl.policies.numerics import Numerics, WeightScaling
from steadyrl.policies.policy import Policy
from steadyrl.policies.rounding import Rounding


def engine_policy(
    policy: Policy,
    numerics: Numerics,
    weight_scaling: WeightScaling,
    *,
    head_dtype: HeadDtype = "model",
    rounding: Rounding = "nearest",
    seed: int = 0,
) -> Policy:
    """A copy of `policy` with its current weights that scores in an engine's numerics.

    Args:
        head_dtype: Dtype of the engine's output head.
        rounding: Rounding of float32 weights to bfloat16.
        seed: Seed of the thresholds of stochastic rounding.
    """
    engine = EngineModel(
        policy,
        numerics=numerics,
        weight_scaling=weight_scaling,
        rounding=rounding,
        seed=seed,
        record_routing=False,
        head_dtype=head_dtype,
    )
    hooked = policy.hook is not None
    return Policy(engine.model, policy.tokenizer, hook_routing=hooked)
