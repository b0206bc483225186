"""Experiential RL against reinforcement alone, and without each of its parts, on FrozenLake.

Every condition takes one optimiser step for each rollout, on the same tasks. A prompt has at most
twelve generations: four first attempts with as many reflections and second attempts in Experiential
RL, which needs fewer the more first attempts succeed; twelve attempts, or six pairs of attempts,
without it. So no condition of Experiential RL has more rollouts or more optimiser steps than the
others.
"""

from typing import Any

from steadyrl.algorithms.erl_control import SecondChanceSettings
from steadyrl.algorithms.erl_internalization import NoInternalization
from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.algorithms.memory_settings import NoMemory
from steadyrl.algorithms.objective_settings import GRPO, MiniRL
from steadyrl.algorithms.policy_gradient import PolicyGradientSettings
from steadyrl.algorithms.reflection_prompts import ReflectionStyle
from steadyrl.algorithms.reflection_settings import NoReflection, PolicyReflection
from steadyrl.engines.protocol import Sampling
from steadyrl.policies.numerics import Numerics
from steadyrl.studies.claims import Claim, Comparison, greater, not_greater, similar
from steadyrl.studies.erl_world import erl_world
from steadyrl.studies.study import Condition, Study

ERL, RLVR, FEEDBACK = "ERL", "RLVR", "RLVR that reads feedback"
NO_MEMORY, NO_REFLECTION = "ERL - memory", "ERL - reflection"
NO_INTERNALIZATION, NO_GATE, WITH_MINIRL = "ERL - internalisation", "ERL - gate", "ERL, MiniRL"

SOURCE = "arXiv:2602.13949"
OURS = "our own: the paper has no such run"

PROMPTS = 16

RULEBOOK = PolicyReflection(
    style=ReflectionStyle.COMPACT,
    longest=64,
    sampling=Sampling(temperature=0.5, top_p=0.9, max_new_tokens=32),
)
"""The paper's sampling, and room for eight pairs."""


def erl_frozen_lake(numerics: Numerics) -> Study:
    """The paper's settings, one part less in each condition, and three controls."""
    return Study(
        name=f"erl-frozenlake-{numerics}",
        title=f"Experiential RL on FrozenLake, rollouts in {numerics}",
        conditions=conditions(numerics),
        claims=CLAIMS,
        seeds=(0, 1, 2, 3, 4),
        measures=(
            "final_score",
            "mean_score",
            "first_score",
            "final_reward",
            "retry_reward",
            "retry_lift",
            "kept",
            "seconds",
        ),
        panels=("score", "reward", "reward_after_reflection", "reward_reflected"),
    )


def conditions(numerics: Numerics) -> tuple[Condition, ...]:
    """Experiential RL whole and without each part, and reinforcement without and with feedback."""
    unreflected = NoReflection(style=ReflectionStyle.COMPACT)
    experiential: dict[str, dict[str, Any]] = {
        ERL: {},
        NO_MEMORY: {"memory": NoMemory()},
        NO_REFLECTION: {"reflection": unreflected, "memory": NoMemory()},
        NO_INTERNALIZATION: {"internalization": NoInternalization()},
        NO_GATE: {"gate": False},
        WITH_MINIRL: {"objective": MiniRL(), "advantage": "group_mean"},
    }
    return (
        *(
            Condition(name=name, config=erl_world(numerics, erl=_experiential(**changes)))
            for name, changes in experiential.items()
        ),
        Condition(name=RLVR, config=erl_world(numerics, policy_gradient=_reinforcement(12))),
        Condition(
            name=FEEDBACK,
            config=erl_world(
                numerics,
                policy_gradient=_reinforcement(6),
                second_chance=SecondChanceSettings(style=ReflectionStyle.COMPACT),
            ),
        ),
    )


def _experiential(**changes: Any) -> ExperientialSettings:
    values = {"prompts": PROMPTS, "group_size": 4, "reflection": RULEBOOK, "max_turns": 1}
    return ExperientialSettings(**values | changes)


def _reinforcement(group_size: int) -> PolicyGradientSettings:
    """The objective and the advantage of Experiential RL, on attempts alone."""
    return PolicyGradientSettings(
        objective=GRPO(clip_low=0.2, clip_high=0.28),
        advantage="group_mean_std",
        prompts=PROMPTS,
        group_size=group_size,
        max_turns=2,
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
        text="Experiential RL ends higher than reinforcement, and is ahead on the way",
        source=f"{SOURCE}, table 1 and figure 4",
        comparisons=_sooner_and_better(ERL, RLVR),
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
        text="Internalisation contributes",
        source=OURS,
        comparisons=_sooner_and_better(ERL, NO_INTERNALIZATION),
    ),
    Claim(
        text="The extra information alone helps reinforcement",
        source=OURS,
        comparisons=_sooner_and_better(FEEDBACK, RLVR),
    ),
    Claim(
        text="Without internalisation the loop gains no more than reading the feedback does",
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
