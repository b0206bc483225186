"""Staleness of rollouts: how old the weights that sample may be, with replay and clipping or not.

Rollouts are sampled a fixed number of steps ahead, in one process, so that runs repeat to the bit.
Every bound is a study of its own; seeds and claims are fixed here, before anything is run.
"""

from steadyrl.lab.claims import Claim, greater
from steadyrl.lab.off_policy import REPLAYS, off_policy_conditions
from steadyrl.lab.study import Condition, Study, changed
from steadyrl.policies.numerics import Numerics

BOUNDS = (0, 1, 2, 4, 8)
SEEDS = (0, 1, 2, 3, 4)
MINI_BATCHES = 2
"""The smallest number at which R2 replays anything that is not chosen anyway."""

GRADIENT_STEPS = 96
LEARNING_RATE = 4e-4
"""Twice that of the studies of figures, as in the first studies of doses."""

EVALUATIONS = 4
SOURCE = "our own, before any run"


def stale_rollouts(numerics: Numerics, *, bound: int) -> Study:
    """{no replay, R2, R3} x {clipping, no clipping}, with rollouts sampled `bound` steps ahead."""
    return Study(
        experiment=f"stale-rollouts-{bound}",
        level=numerics,
        title=f"Rollouts {bound} steps ahead, N = {MINI_BATCHES}, rollouts in {numerics}",
        conditions=tuple(
            _ahead(condition, bound) for condition in off_policy_conditions(numerics, MINI_BATCHES)
        ),
        claims=tuple(
            Claim(
                text=f"With rollouts {bound} ahead, {better} scores higher than {worse}",
                source=SOURCE,
                comparisons=(greater("final_score", better, worse),),
            )
            for better, worse in (
                ("R3, clipping", "no replay, clipping"),
                ("R3, clipping", "R2, clipping"),
                *((f"{replay}, clipping", f"{replay}, no clipping") for replay in REPLAYS),
            )
        ),
        seeds=SEEDS,
        measures=(
            "final_score",
            "best_score",
            "final_reward",
            "kept",
            "log10_mismatch",
            "log10_staleness",
            "log10_gradient_norm",
        ),
    )


def _ahead(condition: Condition, bound: int) -> Condition:
    """`condition` in fewer steps, with rollouts sampled ahead and scored again."""
    config, rollouts = condition.config, GRADIENT_STEPS // MINI_BATCHES
    groups = config.algorithm.model_dump()["prompts"] * MINI_BATCHES
    measured = {"max_staleness": bound, "rescored_groups": groups}
    return Condition(
        name=condition.name,
        config=changed(
            config,
            steps=rollouts,
            engine=config.engine.model_dump() | measured,
            optimizer=config.optimizer.model_dump() | {"learning_rate": LEARNING_RATE},
            evaluation=config.evaluation.model_dump() | {"samples": 2},
            evaluate_every=rollouts // EVALUATIONS,
            # A checkpoint in between would interrupt what is sampled ahead.
            journal=config.journal.model_dump()
            | {"checkpoint_every": rollouts, "completions_every": rollouts},
        ),
    )
