"""Experiential RL in a world small enough to watch it work: a lake whose rules no one tells.

    steadyrl train erl-frozenlake-tiny --out runs/lake

A small model is first drilled in following rulebooks and in writing them from feedback, each time
on another meaning of the four action words. Then it meets the one meaning that no drill had. First
attempts guess; their feedback shows what actions do; the reflection writes that down; the second
attempt follows it; and what succeeded is learned without the reflection.
"""

from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.algorithms.grid_drills import GridDrillSettings
from steadyrl.algorithms.reflection_prompts import ReflectionStyle
from steadyrl.algorithms.reflection_settings import PolicyReflection
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


def erl_frozenlake_tiny() -> RunConfig:
    """Experiential RL in minutes on two CPU cores: a lake whose rules no one tells."""
    return RunConfig(
        threads=1,
        model=SmallDense(layers=4, heads=2, kv_heads=2, head_dim=32),
        environment=_lake(Choice.FIXED),
        cold_start=ColdStart(
            teacher=GridDrillSettings(
                environment=_lake(Choice.PERMUTED),
                first_attempts=0.05,
                reflections=0.35,
                retries=0.1,
                plain=0.2,
            ),
            steps=2000,
            batch_size=48,
            optimizer=OptimizerSettings(learning_rate=3e-3, schedule="cosine", warmup_steps=20),
        ),
        erl=ExperientialSettings(
            prompts=16,
            group_size=4,
            max_turns=1,
            reflection=PolicyReflection(
                style=ReflectionStyle.COMPACT,
                longest=64,
                sampling=Sampling(temperature=0.5, top_p=0.9, max_new_tokens=32),
            ),
        ),
        routing_replay="none",
        steps=128,
        sampling=Sampling(max_new_tokens=4),
        engine=EngineSettings(numerics=Numerics.FLOAT32),
        learner=LearnerSettings(micro_batch_tokens=2048),
        optimizer=OptimizerSettings(learning_rate=5e-4, warmup_steps=8),
        evaluation=EvaluationSettings(tasks=128, samples=2),
        evaluate_every=16,
        journal=JournalSettings(checkpoint_every=64),
    )


def _lake(actions: Choice) -> FrozenLakeSettings:
    """Lakes of 3 x 3 cells, the goal within two moves. Action words mean what `actions` says."""
    return FrozenLakeSettings(
        rendering="compact",
        actions=actions,
        meaning=9,  # left leads down, down right, right up, up left: no drill has it
        min_size=3,
        max_size=3,
        max_path=2,
        moves=2,
    )
