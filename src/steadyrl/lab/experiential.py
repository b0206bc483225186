"""Experiential RL against reinforcement alone, and without each of its parts, on one recipe.

Every condition takes one optimizer step for each rollout, on the same tasks. A prompt has at most
twelve generations: four first attempts with as many reflections and second attempts in Experiential
RL, which needs fewer the more first attempts succeed; twelve attempts, or six pairs of attempts,
without it. So no condition of Experiential RL has more rollouts or more optimizer steps than the
others.
"""

from collections.abc import Callable
from typing import Any

from steadyrl.algorithms.erl_internalization import NoInternalization
from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.algorithms.memory import NoMemory
from steadyrl.algorithms.reflection import FrozenReflection, NoReflection, PolicyReflection
from steadyrl.algorithms.reflection_prompts import ReflectionStyle
from steadyrl.engines.local import LocalEngineSettings
from steadyrl.lab.claims import Claim, Comparison, greater, not_greater, similar
from steadyrl.lab.study import Condition, Study, changed
from steadyrl.lab.worlds.rlvr_recipes import attempts_alone
from steadyrl.lab.worlds.second_chance import SecondChanceSettings
from steadyrl.objectives import MiniRL
from steadyrl.policies.numerics import Numerics
from steadyrl.run.config import RunConfig
from steadyrl.training.journal import JournalSettings
from steadyrl.training.trackers import JsonlSettings

ERL, RLVR, FEEDBACK = "ERL", "RLVR", "RLVR that reads feedback"
NO_MEMORY, NO_REFLECTION = "ERL - memory", "ERL - reflection"
NO_INTERNALIZATION, NO_GATE, WITH_MINIRL = "ERL - internalization", "ERL - gate", "ERL, MiniRL"
HELD = "ERL, held reflector"

SOURCE = "arXiv:2602.13949"
OURS = "our own: the paper has no such run"


def experiential_study(
    world: str, game: str, recipe: Callable[[], RunConfig], numerics: Numerics
) -> Study:
    """The recipe's Experiential RL, one part less in each condition, and three controls."""
    return Study(
        experiment="erl",
        level=f"{world}-{numerics}",
        title=f"Experiential RL on {game}, rollouts in {numerics}",
        conditions=_conditions(recipe(), numerics),
        claims=CLAIMS,
        seeds=(0, 1, 2, 3, 4),
        measures=(
            "final_score",
            "mean_score",
            "first_score",
            "final_reward",
            "mean_reward",
            "retry_reward",
            "retry_lift",
            "kept",
            "seconds",
        ),
        panels=("score", "reward", "reward_after_reflection", "reward_reflected"),
    )


def _conditions(recipe: RunConfig, numerics: Numerics) -> tuple[Condition, ...]:
    """Experiential RL whole and without each part, and reinforcement without and with feedback."""
    erl = recipe.algorithm
    assert isinstance(erl, ExperientialSettings)
    assert isinstance(erl.reflection, PolicyReflection)
    unreflected = NoReflection(style=ReflectionStyle.COMPACT)
    as_begun = FrozenReflection(**erl.reflection.model_dump(exclude={"name", "malformed"}))
    experiential: dict[str, dict[str, Any]] = {
        ERL: {},
        NO_MEMORY: {"memory": NoMemory()},
        NO_REFLECTION: {"reflection": unreflected, "memory": NoMemory()},
        NO_INTERNALIZATION: {"internalization": NoInternalization()},
        NO_GATE: {"gate": False},
        WITH_MINIRL: {"objective": MiniRL(), "advantage": "group_mean"},
        HELD: {"reflection": as_begun},
    }
    attempts = attempts_alone(erl)
    in_pairs = attempts.model_dump(exclude={"name"}) | {"group_size": attempts.group_size // 2}
    runs = {name: erl.model_dump() | parts for name, parts in experiential.items()}
    runs[RLVR] = attempts.model_dump()
    runs[FEEDBACK] = SecondChanceSettings(style=ReflectionStyle.COMPACT, **in_pairs).model_dump()
    return tuple(
        Condition(name=name, config=experiential_run(recipe, numerics, algorithm))
        for name, algorithm in runs.items()
    )


def experiential_run(recipe: RunConfig, numerics: Numerics, algorithm: dict[str, Any]) -> RunConfig:
    """The recipe with another algorithm, rollouts in `numerics`, and less that is kept of it."""
    journal = JournalSettings(
        checkpoint_every=recipe.steps // 4,
        keep_checkpoints=1,
        completions_every=recipe.steps,
    )
    return changed(
        recipe,
        engine=LocalEngineSettings(numerics=numerics),
        journal=journal,
        trackers=(JsonlSettings(),),
        algorithm=algorithm,
    )


def _sooner_and_better(first: str, second: str) -> tuple[Comparison, ...]:
    return greater("final_score", first, second), greater("mean_score", first, second)


CLAIMS = (
    Claim(
        text="Attempts after a reflection earn more than those before it",
        source=f"{SOURCE}, figure 6",
        comparisons=(greater("retry_lift", ERL, 0.0),),
    ),
    Claim(
        text="Reflections guide second attempts better than the raw record does",
        source=f"{SOURCE}, figure 7",
        comparisons=(greater("retry_reward", ERL, NO_REFLECTION),),
    ),
    Claim(
        text="In training, first attempts earn more than those of reinforcement alone",
        source=f"{SOURCE}, figure 6",
        comparisons=(greater("mean_reward", ERL, RLVR),),
    ),
    Claim(
        text="Experiential RL ends higher than reinforcement, and is ahead on the way",
        source=f"{SOURCE}, table 1 and figure 4",
        comparisons=_sooner_and_better(ERL, RLVR),
    ),
    Claim(
        text="In equal time Experiential RL is ahead of reinforcement",
        source=f"{SOURCE}, figure 4",
        comparisons=(greater("score_in_equal_time", ERL, RLVR),),
    ),
    Claim(
        text="The memory contributes",
        source=f"{SOURCE}, figure 7",
        comparisons=_sooner_and_better(ERL, NO_MEMORY),
    ),
    Claim(
        text="Reflection contributes",
        source=f"{SOURCE}, figure 7",
        comparisons=_sooner_and_better(ERL, NO_REFLECTION),
    ),
    Claim(
        text="Without the gate training is worse",
        source=f"{SOURCE}, appendix A",
        comparisons=(greater("mean_score", ERL, NO_GATE), greater("kept", ERL, NO_GATE)),
    ),
    Claim(
        text="Internalization contributes",
        source=OURS,
        comparisons=_sooner_and_better(ERL, NO_INTERNALIZATION),
    ),
    Claim(
        text="Training the reflections contributes: a reflector that is not trained is worse",
        source=OURS,
        comparisons=_sooner_and_better(ERL, HELD),
    ),
    Claim(
        text="The extra information alone helps reinforcement",
        source=OURS,
        comparisons=_sooner_and_better(FEEDBACK, RLVR),
    ),
    Claim(
        text="Without internalization the loop gains no more than reading the feedback does",
        source=OURS,
        comparisons=(not_greater("mean_score", NO_INTERNALIZATION, FEEDBACK),),
    ),
    Claim(
        text="GRPO and MiniRL serve Experiential RL alike",
        source=OURS,
        comparisons=(
            similar("final_score", ERL, WITH_MINIRL),
            similar("mean_score", ERL, WITH_MINIRL),
        ),
    ),
)
