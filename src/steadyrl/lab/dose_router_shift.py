"""RSPO's router-shift weights beside none and R2, by gradient steps on each rollout.

The runs are those of the dial of staleness with another objective. Seeds and claims are stated
before any run.
"""

from collections.abc import Mapping

from steadyrl.lab.claims import Claim, greater
from steadyrl.lab.dials import staleness
from steadyrl.lab.study import changed
from steadyrl.lab.sweep import SCORES, SweepStudy, conditions_of, place
from steadyrl.objectives import GRPO, RSPO, Objective
from steadyrl.policies.numerics import Numerics
from steadyrl.records.routing import RoutingReplay
from steadyrl.run.config import RunConfig

STEPS = (4.0, 16.0, 64.0)
SEEDS = (0, 1, 2)
SOURCE = "our own, before any run"

PLAIN, SHIFTED, REPLAYED = "GRPO", "RSPO", "GRPO, R2"
LINES: Mapping[str, tuple[Objective, RoutingReplay]] = {
    PLAIN: (GRPO(), RoutingReplay.NONE),
    SHIFTED: (RSPO(), RoutingReplay.NONE),
    REPLAYED: (GRPO(), RoutingReplay.R2),
}


def router_shift(numerics: Numerics) -> SweepStudy:
    """Every line at every number of gradient steps."""
    dial = staleness(numerics)
    lines: dict[str, list[tuple[float, RunConfig]]] = {line: [] for line in LINES}
    for line, (objective, replay) in LINES.items():
        for steps in STEPS:
            config = dial.turn(dial.control, steps)
            algorithm = config.algorithm.model_copy(update={"objective": objective})
            lines[line].append(
                (steps, changed(config, algorithm=algorithm.model_dump(), routing_replay=replay))
            )
    most = STEPS[-1]
    return SweepStudy(
        experiment="dose-router-shift",
        level=numerics,
        title=f"Router-shift weights, rollouts in {numerics}",
        conditions=tuple(conditions_of(lines)),
        claims=tuple(
            Claim(
                text=f"At N = {most:g}, RSPO scores higher than {other}",
                source=SOURCE,
                comparisons=(greater("final_score", place(SHIFTED, most), place(other, most)),),
            )
            for other in (PLAIN, REPLAYED)
        ),
        seeds=SEEDS,
        measures=(*SCORES, "final_reward", "log10_mismatch"),
        axis="gradient steps on each rollout",
        points=STEPS,
        lines=tuple(lines),
        drawn=("final_score", "best_score", "mean_score", "final_reward"),
    )
