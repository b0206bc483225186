"""Arithmetic chains with a small Mixture-of-Experts model trained from scratch.

    steadyrl train demo --out runs/demo

The cold start imitates a teacher that errs in a quarter of its steps, so the model knows the
correct result but often samples a wrong one. MiniRL then improves it, with FP8 rounding in the
rollout engine.
"""

from steadyrl.algorithms.policy_gradient import PolicyGradientSettings
from steadyrl.engines.local import LocalEngineSettings
from steadyrl.engines.protocol import Sampling
from steadyrl.environments.arithmetic import ArithmeticSettings
from steadyrl.environments.arithmetic_styles import Style
from steadyrl.environments.arithmetic_teacher import ArithmeticTeacherSettings
from steadyrl.evaluation.accuracy import EvaluationSettings
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.policies.model_settings import SmallMoE
from steadyrl.policies.numerics import Numerics
from steadyrl.run.config import ColdStart, RunConfig
from steadyrl.training.journal import JournalSettings


def arithmetic_demo() -> RunConfig:
    """A small Mixture-of-Experts model learns sums from scratch, in minutes on two CPU cores."""
    return RunConfig(
        threads=1,
        model=SmallMoE(),
        environment=ArithmeticSettings(operands=4),
        cold_start=ColdStart(
            teacher=ArithmeticTeacherSettings(style=Style.RESULTS, error_rate=0.25),
            steps=800,
            batch_size=128,
            optimizer=OptimizerSettings(learning_rate=3e-3, schedule="cosine", warmup_steps=20),
        ),
        algorithm=PolicyGradientSettings(prompts=64, group_size=8),
        steps=150,
        sampling=Sampling(max_new_tokens=16),
        engine=LocalEngineSettings(numerics=Numerics.FP8),
        optimizer=OptimizerSettings(learning_rate=6e-4, schedule="linear", warmup_steps=10),
        evaluation=EvaluationSettings(tasks=256, samples=4),
        evaluate_every=25,
        journal=JournalSettings(checkpoint_every=50),
    )
