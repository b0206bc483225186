"""The world of the studies: small enough for many seeds on two cores.

Chains of arithmetic as in the demo, by a Mixture-of-Experts model whose teacher writes in three
styles of different length, so that answers to one prompt differ in length and length normalization
changes the objective.
"""

from steadyrl.algorithms.policy_gradient import PolicyGradientSettings
from steadyrl.engines.local import LocalEngineSettings
from steadyrl.engines.protocol import Sampling
from steadyrl.environments.arithmetic import ArithmeticSettings
from steadyrl.environments.arithmetic_teacher import ArithmeticTeacherSettings
from steadyrl.evaluation.accuracy import EvaluationSettings
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.objectives import MiniRL
from steadyrl.policies.model_settings import ModelSettings, SmallMoE
from steadyrl.policies.numerics import Numerics
from steadyrl.records.routing import RoutingReplay
from steadyrl.run.config import ColdStart, RunConfig
from steadyrl.training.journal import JournalSettings
from steadyrl.training.trackers import JsonlSettings

LEARNING_RATE = 2e-4
"""By the rule that `learning_rate` states."""

GRADIENT_STEPS = 400
WARMUP = 16
EVALUATIONS = 8

MINIRL = PolicyGradientSettings()

NO_CLIPPING = PolicyGradientSettings(
    objective=MiniRL(clip_low=float("inf"), clip_high=float("inf"))
)
"""The weight's cap stays: it bounds a value, not the policy."""


def world(
    numerics: Numerics,
    algorithm: PolicyGradientSettings = MINIRL,
    *,
    mini_batches: int = 1,
    routing_replay: RoutingReplay = RoutingReplay.NONE,
    model: ModelSettings | None = None,
    teacher: ArithmeticTeacherSettings | None = None,
    learning_rate: float = LEARNING_RATE,
    gradient_steps: int = GRADIENT_STEPS,
) -> RunConfig:
    """A run of `gradient_steps`, in rollouts of `mini_batches` each.

    Args:
        algorithm: Objective, correction, advantage and aggregation.
    """
    rollouts = gradient_steps // mini_batches
    return RunConfig(
        threads=1,
        model=model or SmallMoE(),
        environment=ArithmeticSettings(operands=4),
        cold_start=ColdStart(
            teacher=teacher or ArithmeticTeacherSettings(style="mixed", error_rate=0.25),
            steps=800,
            batch_size=128,
            optimizer=OptimizerSettings(learning_rate=3e-3, schedule="cosine", warmup_steps=20),
        ),
        algorithm=algorithm.model_copy(
            update={"prompts": 16, "group_size": 8, "mini_batches": mini_batches}
        ),
        routing_replay=routing_replay,
        steps=rollouts,
        sampling=Sampling(max_new_tokens=40),
        engine=LocalEngineSettings(numerics=numerics),
        optimizer=OptimizerSettings(
            learning_rate=learning_rate, warmup_steps=max(1, WARMUP // mini_batches)
        ),
        evaluation=EvaluationSettings(tasks=256, samples=4),
        evaluate_every=max(1, rollouts // EVALUATIONS),
        journal=JournalSettings(
            checkpoint_every=max(1, rollouts // 4),
            keep_checkpoints=1,
            completions_every=rollouts,
        ),
        trackers=(JsonlSettings(),),
    )
