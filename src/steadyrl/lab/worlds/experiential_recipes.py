"""Experiential RL in worlds small enough to watch it work: rules and words that no one explains.

    steadyrl train erl-frozenlake-tiny --out runs/lake
    steadyrl train erl-sokoban-tiny --out runs/sokoban
    steadyrl train erl-questions-tiny --out runs/questions

A small model is first drilled in following rulebooks and in writing them from feedback, each time
on another meaning of four words. Then it meets the one meaning that no drill had. First attempts
guess; their feedback shows what words mean; the reflection writes that down; the second attempt
follows it; and what succeeded is learned without the reflection.
"""

from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.algorithms.reflection import PolicyReflection
from steadyrl.algorithms.reflection_prompts import ReflectionStyle
from steadyrl.engines.local import LocalEngineSettings
from steadyrl.engines.protocol import Sampling
from steadyrl.environments.frozen_lake import FrozenLakeSettings
from steadyrl.environments.grid_meaning import MeaningSource
from steadyrl.environments.hotpot_dialogue import DialogueStyle
from steadyrl.environments.hotpot_qa import HotpotQASettings
from steadyrl.environments.sokoban import SokobanSettings
from steadyrl.evaluation.accuracy import EvaluationSettings
from steadyrl.lab.worlds.coded_questions import CodedQuestions
from steadyrl.lab.worlds.grid_drills import GridDrillSettings
from steadyrl.lab.worlds.question_drills import QuestionDrillSettings
from steadyrl.learners.local import LocalLearnerSettings
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.policies.model_settings import SmallDense
from steadyrl.policies.numerics import Numerics
from steadyrl.run.config import ColdStart, RunConfig
from steadyrl.training.journal import JournalSettings

MEANING = 9
"""On grids the word left leads down, down right, right up, and up left; in questions the word k
means the relation e, l means i, m means o, and n means a. No drill has these."""

REFLECTION = PolicyReflection(
    style=ReflectionStyle.COMPACT,
    max_length=64,
    sampling=Sampling(temperature=0.5, top_p=0.9, max_new_tokens=32),
)
"""The paper's sampling, and room for nine pairs."""


def erl_frozenlake_tiny() -> RunConfig:
    """Experiential RL in minutes on two CPU cores: a lake whose rules no one tells."""
    lake = FrozenLakeSettings(
        rendering="compact",
        actions=MeaningSource.FIXED,
        meaning=MEANING,
        min_size=3,
        max_size=3,
        max_path=2,
        moves=2,
    )
    drills = GridDrillSettings(
        environment=lake.model_copy(update={"actions": MeaningSource.PERMUTED}),
        first_attempts=0.05,
        reflections=0.35,
        retries=0.1,
        plain=0.2,
    )
    return _tiny(lake, drills, drill_steps=2000, steps=128, turns=1, turn_tokens=4)


def erl_sokoban_tiny() -> RunConfig:
    """Experiential RL in minutes on two CPU cores: rooms in which no one says how to move."""
    rooms = SokobanSettings(
        rendering="compact",
        actions=MeaningSource.FIXED,
        meaning=MEANING,
        min_size=6,
        max_size=6,
        max_path=2,
        inner_walls=0.25,
        moves=2,
    )
    drills = GridDrillSettings(
        environment=rooms.model_copy(update={"actions": MeaningSource.PERMUTED}),
        first_attempts=0.05,
        reflections=0.2,
        retries=0.05,
        plain=0.05,
        half_plain=0.45,
    )
    return _tiny(rooms, drills, drill_steps=2000, steps=128, turns=1, turn_tokens=4)


def erl_questions_tiny() -> RunConfig:
    """Experiential RL in minutes on two CPU cores: questions in words that no one explains.

    An answer takes two searches, each for the relation that a word means. One guess in twelve is
    right.
    """
    words = CodedQuestions(relations=4, words="fixed", meaning=MEANING)
    asked = HotpotQASettings(questions=words, style=DialogueStyle.COMPACT, passages=1)
    permuted = words.model_copy(update={"words": "permuted"})
    drills = QuestionDrillSettings(
        environment=asked.model_copy(update={"questions": permuted}),
        first_attempts=0.1,
        reflections=0.3,
        retries=0.1,
    )
    return _tiny(asked, drills, drill_steps=1500, steps=64, turns=asked.turns, turn_tokens=16)


def _tiny(
    world: FrozenLakeSettings | SokobanSettings | HotpotQASettings,
    drills: GridDrillSettings | QuestionDrillSettings,
    *,
    drill_steps: int,
    steps: int,
    turns: int,
    turn_tokens: int,
) -> RunConfig:
    """Drills on every other meaning of the words, then the one that they have in `world`.

    Args:
        turns: Of an episode.
        turn_tokens: Budget of each.
    """
    return RunConfig(
        threads=1,
        model=SmallDense(layers=4, heads=2, kv_heads=2, head_dim=32),
        environment=world,
        cold_start=ColdStart(
            teacher=drills,
            steps=drill_steps,
            batch_size=48,
            optimizer=OptimizerSettings(learning_rate=3e-3, schedule="cosine", warmup_steps=20),
        ),
        algorithm=ExperientialSettings(
            prompts=16, group_size=4, max_turns=turns, reflection=REFLECTION
        ),
        routing_replay="none",
        steps=steps,
        sampling=Sampling(max_new_tokens=turn_tokens),
        engine=LocalEngineSettings(numerics=Numerics.FLOAT32),
        learner=LocalLearnerSettings(micro_batch_tokens=2048),
        optimizer=OptimizerSettings(learning_rate=5e-4, warmup_steps=8),
        evaluation=EvaluationSettings(tasks=128, samples=2),
        evaluate_every=steps // 8,
        journal=JournalSettings(checkpoint_every=steps // 2),
    )
