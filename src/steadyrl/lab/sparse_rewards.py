"""Experiential RL where a guess is hardly ever right, which is the paper's own argument for it.

The worlds and drills are those of the recipes, with one difference: first attempts are drilled by
rules that do not hold in the run (`prior`), so that the policy is sure of what is wrong. A success
of less than 1 in 200 first attempts is the premise of every claim but the first. All runs begin
with one cold start. Seeds and claims are stated before any run.
"""

from collections.abc import Callable

from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.lab.claims import Claim, Comparison, greater, less
from steadyrl.lab.experiential import ERL, RLVR, SOURCE, experiential_run
from steadyrl.lab.study import Condition, Study, changed
from steadyrl.lab.worlds.experiential_recipes import erl_frozenlake_tiny, erl_questions_tiny
from steadyrl.lab.worlds.rlvr_recipes import attempts_alone
from steadyrl.policies.numerics import Numerics
from steadyrl.run.config import RunConfig

GUESS = 1 / 200
"""First attempts succeed less often than this before reinforcement."""

WORLDS: dict[str, tuple[str, Callable[[], RunConfig]]] = {
    "frozenlake": ("FrozenLake", erl_frozenlake_tiny),
    "questions": ("multi-hop questions", erl_questions_tiny),
}


def sparse_rewards(world: str, numerics: Numerics) -> Study:
    """Experiential RL against reinforcement alone, at no more responses, with a wrong prior."""
    game, recipe = WORLDS[world]
    config = _sure_of_what_is_wrong(recipe())
    erl = config.algorithm
    assert isinstance(erl, ExperientialSettings)
    algorithms = {ERL: erl, RLVR: attempts_alone(erl)}
    sparse = (less("first_score", ERL, GUESS),)
    return Study(
        experiment="erl-sparse",
        level=f"{world}-{numerics}",
        title=f"Experiential RL on {game} with sparse rewards, rollouts in {numerics}",
        conditions=tuple(
            Condition(name=name, config=experiential_run(config, numerics, algorithm.model_dump()))
            for name, algorithm in algorithms.items()
        ),
        claims=(
            Claim(
                text="A guess is right less than once in 200 attempts",
                source="our own, before any run",
                comparisons=sparse,
            ),
            Claim(
                text="Attempts after a reflection earn more than those before it",
                source=f"{SOURCE}, figure 6",
                premise=sparse,
                comparisons=(greater("retry_lift", ERL, 0.0),),
            ),
            Claim(
                text="Where rewards are sparse, Experiential RL ends higher than reinforcement",
                source=f"{SOURCE}, table 1",
                premise=sparse,
                comparisons=_sooner_and_better(),
            ),
            Claim(
                text="Where rewards are sparse, it is ahead in equal time",
                source=f"{SOURCE}, figure 4",
                premise=sparse,
                comparisons=(greater("score_in_equal_time", ERL, RLVR),),
            ),
        ),
        seeds=(0, 1, 2, 3, 4),
        measures=(
            "final_score",
            "mean_score",
            "first_score",
            "final_reward",
            "mean_reward",
            "retry_reward",
            "retry_lift",
            "seconds",
        ),
        panels=("score", "reward", "reward_after_reflection", "reward_reflected"),
    )


def _sooner_and_better() -> tuple[Comparison, ...]:
    return greater("final_score", ERL, RLVR), greater("mean_score", ERL, RLVR)


def _sure_of_what_is_wrong(config: RunConfig) -> RunConfig:
    """The recipe with drilled first attempts by other rules, more of them, and one cold start."""
    assert config.cold_start is not None
    teacher = config.cold_start.teacher.model_dump() | {"prior": True, "first_attempts": 0.15}
    cold_start = config.cold_start.model_dump() | {"teacher": teacher, "seed": 0}
    return changed(config, cold_start=cold_start)
