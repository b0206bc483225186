"""Staleness of rollouts: how old the weights that sample may be, with replay and clipping or not.

Rollouts are sampled a fixed number of steps ahead, in one process, so that runs repeat to the bit.
The world is that of the doses, at its learning rate. Seeds and claims are fixed here, before
anything is run.
"""

from steadyrl.lab.claims import Claim, greater
from steadyrl.lab.dose_world import dose_world
from steadyrl.lab.off_policy import REPLAYS
from steadyrl.lab.study import changed
from steadyrl.lab.sweep import SCORES, SweepStudy, conditions_of, place
from steadyrl.lab.world import MINIRL, NO_CLIPPING
from steadyrl.policies.numerics import Numerics
from steadyrl.records.routing import RoutingReplay
from steadyrl.run.config import RunConfig

BOUNDS = (0.0, 1.0, 2.0, 4.0, 8.0)
SEEDS = (0, 1, 2, 3, 4)
MINI_BATCHES = 2
"""The smallest number at which R2 replays anything that is not chosen anyway."""

CLIPPING = {"clipping": MINIRL, "no clipping": NO_CLIPPING}
SOURCE = "our own, before any run"


def stale_rollouts(numerics: Numerics) -> SweepStudy:
    """{no replay, R2, R3} x {clipping, no clipping} x the number of steps sampled ahead."""
    lines = {
        f"{replay}, {clipping}": [
            (bound, _ahead(numerics, mode, clipping, bound)) for bound in BOUNDS
        ]
        for clipping in CLIPPING
        for replay, mode in REPLAYS.items()
    }
    return SweepStudy(
        experiment="stale-rollouts",
        level=numerics,
        title=f"Rollouts sampled ahead, N = {MINI_BATCHES}, rollouts in {numerics}",
        conditions=tuple(conditions_of(lines)),
        claims=_claims(),
        seeds=SEEDS,
        measures=(
            *SCORES,
            "final_reward",
            "kept",
            "log10_mismatch",
            "log10_staleness",
            "log10_gradient_norm",
        ),
        axis="steps that rollouts are sampled ahead",
        points=BOUNDS,
        lines=tuple(lines),
    )


def _claims() -> tuple[Claim, ...]:
    """At the largest bound, of the final score; and that age costs anything at all."""
    oldest = BOUNDS[-1]
    pairs = [
        ("R3, clipping", "no replay, clipping"),
        ("R3, clipping", "R2, clipping"),
        *((f"{replay}, clipping", f"{replay}, no clipping") for replay in REPLAYS),
    ]
    remedies = [
        Claim(
            text=f"With rollouts {oldest:g} ahead, {better} scores higher than {worse}",
            source=SOURCE,
            comparisons=(greater("final_score", place(better, oldest), place(worse, oldest)),),
        )
        for better, worse in pairs
    ]
    plain = "no replay, clipping"
    cost = Claim(
        text=f"With {plain}, rollouts {oldest:g} ahead score lower than fresh ones",
        source=SOURCE,
        comparisons=(greater("final_score", place(plain, BOUNDS[0]), place(plain, oldest)),),
    )
    return (cost, *remedies)


def _ahead(numerics: Numerics, replay: RoutingReplay, clipping: str, bound: float) -> RunConfig:
    """A run whose rollouts are sampled `bound` steps ahead, and scored again."""
    config = dose_world(numerics, mini_batches=MINI_BATCHES)
    prompts = config.algorithm.model_dump()["prompts"]
    measured = {"max_staleness": int(bound), "rescored_groups": prompts * MINI_BATCHES}
    objective = {"objective": CLIPPING[clipping].objective}
    return changed(
        config,
        routing_replay=replay,
        algorithm=config.algorithm.model_copy(update=objective).model_dump(),
        engine=config.engine.model_dump() | measured,
    )
