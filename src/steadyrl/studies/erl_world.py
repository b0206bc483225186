"""The world of the studies of Experiential RL: a game whose rules a small model can be told.

The cold start teaches to follow rulebooks, to write them from feedback, and to heed feedback, each
time on another meaning of the action words. Reinforcement is on the one meaning that no drill had.
"""

from steadyrl.algorithms.erl_control import SecondChanceSettings
from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.algorithms.grid_drills import GridDrillSettings
from steadyrl.algorithms.policy_gradient import PolicyGradientSettings
from steadyrl.engines.protocol import Sampling
from steadyrl.environments.frozen_lake import FrozenLakeSettings
from steadyrl.environments.grid_meaning import Choice
from steadyrl.evaluation.accuracy import EvaluationSettings
from steadyrl.policies.loading import SmallDense
from steadyrl.policies.numerics import Numerics
from steadyrl.run.config import ColdStart, EngineSettings, RunConfig
from steadyrl.training.journal import JournalSettings
from steadyrl.training.learner import LearnerSettings
from steadyrl.training.optimizer import OptimizerSettings

STEPS = 128
EVALUATIONS = 8
LEARNING_RATE = 5e-4

MEANING = 9
"""The word left leads down, down right, right up, and up left."""


def lake(actions: Choice) -> FrozenLakeSettings:
    """Lakes of 3 x 3 cells, the goal within two moves. Action words mean what `actions` says."""
    return FrozenLakeSettings(
        rendering="compact",
        actions=actions,
        meaning=MEANING,
        min_size=3,
        max_size=3,
        max_path=2,
        moves=2,
    )


def erl_world(
    numerics: Numerics,
    *,
    erl: ExperientialSettings | None = None,
    policy_gradient: PolicyGradientSettings | None = None,
    second_chance: SecondChanceSettings | None = None,
) -> RunConfig:
    """A run with the one algorithm that is given. Its tasks are those of every other run."""
    return RunConfig(
        threads=1,
        model=SmallDense(layers=4, heads=2, kv_heads=2, head_dim=32),
        environment=lake(Choice.FIXED),
        cold_start=ColdStart(
            teacher=GridDrillSettings(
                environment=lake(Choice.PERMUTED),
                first_attempts=0.05,
                reflections=0.35,
                retries=0.1,
                plain=0.2,
            ),
            steps=2000,
            batch_size=48,
            optimizer=OptimizerSettings(learning_rate=3e-3, schedule="cosine", warmup_steps=20),
        ),
        erl=erl,
        policy_gradient=policy_gradient or PolicyGradientSettings(),
        second_chance=second_chance,
        routing_replay="none",
        steps=STEPS,
        sampling=Sampling(max_new_tokens=4),
        engine=EngineSettings(numerics=numerics),
        learner=LearnerSettings(micro_batch_tokens=2048),
        optimizer=OptimizerSettings(learning_rate=LEARNING_RATE, warmup_steps=8),
        evaluation=EvaluationSettings(tasks=128, samples=2),
        evaluate_every=STEPS // EVALUATIONS,
        journal=JournalSettings(
            checkpoint_every=STEPS // 4,
            keep_checkpoints=1,
            completions_every=STEPS,
            tensorboard=False,
        ),
    )
