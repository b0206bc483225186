"""Figures 1 to 4 of arXiv:2512.01374 side by side: stabilized runs reach similar peaks."""

from steadyrl.lab.claims import Claim, similar
from steadyrl.lab.study import Condition, Study
from steadyrl.lab.world import world
from steadyrl.policies.numerics import Numerics
from steadyrl.records.routing import RoutingReplay

RECIPE = {
    1: RoutingReplay.NONE,
    2: RoutingReplay.R2,
    4: RoutingReplay.R3,
    8: RoutingReplay.R3,
}
"""The replay that the paper recommends for each number of gradient steps per rollout."""


def peaks(numerics: Numerics) -> Study:
    """The recommended recipe at N = 1, 2, 4 and 8, in one picture."""
    conditions = tuple(
        Condition(
            name=_name(mini_batches),
            config=world(numerics, mini_batches=mini_batches, routing_replay=replay),
        )
        for mini_batches, replay in RECIPE.items()
    )
    claims = tuple(
        Claim(
            text=f"The recipe at N = {mini_batches} reaches the peak of the on-policy run",
            source="arXiv:2512.01374, figures 1 to 4 compared",
            comparisons=(similar("best_score", _name(mini_batches), _name(1)),),
        )
        for mini_batches in (2, 4, 8)
    )
    return Study(
        experiment="peaks",
        level=numerics,
        title=f"The recommended recipes, rollouts in {numerics}",
        conditions=conditions,
        claims=claims,
    )


def _name(mini_batches: int) -> str:
    return f"N = {mini_batches}, {RECIPE[mini_batches].value if mini_batches > 1 else 'no replay'}"
