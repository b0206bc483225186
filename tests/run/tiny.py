"""A run that is over in a few seconds and has everything that a run can have."""

from typing import Any

from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.algorithms.policy_gradient import PolicyGradientSettings
from steadyrl.algorithms.reflection import PolicyReflection
from steadyrl.algorithms.reflection_prompts import ReflectionStyle
from steadyrl.engines.local import LocalEngineSettings
from steadyrl.engines.protocol import Sampling
from steadyrl.environments.arithmetic import ArithmeticSettings
from steadyrl.environments.arithmetic_teacher import ArithmeticTeacherSettings
from steadyrl.evaluation.accuracy import EvaluationSettings
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.policies.model_settings import SmallMoE
from steadyrl.policies.numerics import Numerics
from steadyrl.records.routing import RoutingReplay
from steadyrl.run.config import ColdStart, RunConfig
from steadyrl.training.journal import JournalSettings


def tiny_experiential_run(**changes: Any) -> RunConfig:
    """The same with Experiential RL in two mini-batches, whose reflections are often of use."""
    plain = tiny_run()
    reflection = PolicyReflection(
        style=ReflectionStyle.COMPACT, sampling=Sampling(temperature=2.0, max_new_tokens=24)
    )
    values = {
        "model": plain.model.model_copy(update={"max_positions": 128}),
        "algorithm": ExperientialSettings(
            prompts=4, group_size=4, mini_batches=2, reflection=reflection
        ),
        "sampling": Sampling(max_new_tokens=6),
    }
    return tiny_run(**{**values, **changes})


def tiny_run(**changes: Any) -> RunConfig:
    """Six steps of cold start, six of off-policy reinforcement with R3 on an FP8 engine."""
    values = {
        "threads": 1,
        "model": SmallMoE(
            layers=1,
            width=16,
            heads=2,
            kv_heads=1,
            head_dim=8,
            experts=4,
            expert_width=8,
            max_positions=64,
        ),
        "environment": ArithmeticSettings(operands=2, max_operand=4, max_result=5),
        "cold_start": ColdStart(
            teacher=ArithmeticTeacherSettings(error_rate=0.25),
            steps=6,
            batch_size=32,
            optimizer=OptimizerSettings(learning_rate=1e-1),
        ),
        "algorithm": PolicyGradientSettings(prompts=4, group_size=4, mini_batches=2),
        "routing_replay": RoutingReplay.R3,
        "steps": 6,
        "sampling": Sampling(max_new_tokens=4),
        "engine": LocalEngineSettings(numerics=Numerics.FP8),
        "optimizer": OptimizerSettings(learning_rate=1e-2),
        "evaluation": EvaluationSettings(tasks=4, samples=2),
        "evaluate_every": 3,
        "journal": JournalSettings(checkpoint_every=2),
    }
    return RunConfig(**{**values, **changes})
