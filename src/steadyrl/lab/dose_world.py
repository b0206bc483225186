"""The world of the doses: one run in a quarter of a minute, so that many can find a border.

Chains of arithmetic as in the demo, whose answers are eight tokens long, after one cold start for
all runs. A run's seed decides its tasks and its sampling.

Tuned by hand before any dose was run, on seeds that no border uses: with 64 answers a gradient step
and without a warm-up, every run at dose 0 collapsed from 4e-4 on. The rule for the learning rate
was changed after its outcome was seen: the first one, the largest rate of four whose two runs end
within 0.03 of their best score, would have chosen 4e-4. `dose_learning_rate` is the present one.
"""

from steadyrl.algorithms.policy_gradient import PolicyGradientSettings
from steadyrl.engines.local import LocalEngineSettings
from steadyrl.engines.protocol import Sampling
from steadyrl.environments.arithmetic import ArithmeticSettings
from steadyrl.environments.arithmetic_styles import Style
from steadyrl.environments.arithmetic_teacher import ArithmeticTeacherSettings
from steadyrl.evaluation.accuracy import EvaluationSettings
from steadyrl.lab.study import Condition, Study
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.policies.model_settings import SmallMoE
from steadyrl.policies.numerics import Numerics
from steadyrl.records.routing import RoutingReplay
from steadyrl.run.config import ColdStart, RunConfig
from steadyrl.training.journal import JournalSettings
from steadyrl.training.trackers import JsonlSettings

GRADIENT_STEPS = 64
WARMUP = 16
EVALUATIONS = 2

CANDIDATES = (2e-4, 4e-4)

LEARNING_RATE = 2e-4
"""Chosen by `dose_learning_rate`."""


def dose_world(
    numerics: Numerics, *, mini_batches: int, learning_rate: float = LEARNING_RATE
) -> RunConfig:
    """A run of `GRADIENT_STEPS`, in rollouts of `mini_batches` each of 128 answers."""
    rollouts = GRADIENT_STEPS // mini_batches
    return RunConfig(
        threads=1,
        model=SmallMoE(),
        environment=ArithmeticSettings(operands=4),
        cold_start=ColdStart(
            teacher=ArithmeticTeacherSettings(style=Style.RESULTS, error_rate=0.25),
            steps=400,
            batch_size=128,
            optimizer=OptimizerSettings(learning_rate=3e-3, schedule="cosine", warmup_steps=20),
            seed=0,
        ),
        algorithm=PolicyGradientSettings(prompts=16, group_size=8, mini_batches=mini_batches),
        routing_replay=RoutingReplay.NONE,
        steps=rollouts,
        sampling=Sampling(max_new_tokens=16),
        engine=LocalEngineSettings(numerics=numerics),
        optimizer=OptimizerSettings(
            learning_rate=learning_rate, warmup_steps=-(-WARMUP // mini_batches)
        ),
        evaluation=EvaluationSettings(tasks=256, samples=2),
        evaluate_every=max(1, rollouts // EVALUATIONS),
        journal=JournalSettings(
            checkpoint_every=rollouts, keep_checkpoints=1, completions_every=rollouts
        ),
        trackers=(JsonlSettings(),),
    )


def dose_learning_rate(numerics: Numerics) -> Study:
    """The choice of the learning rate: the higher mean final score of two runs at dose 0, N = 4."""
    return Study(
        experiment="dose-world",
        level=numerics,
        title=f"Learning rates of the doses, N = 4, rollouts in {numerics}",
        conditions=tuple(
            Condition(
                name=f"{rate:.1e}",
                config=dose_world(numerics, mini_batches=4, learning_rate=rate),
            )
            for rate in CANDIDATES
        ),
        claims=(),
        seeds=(900, 901),
    )
