"""MiniRL against the objectives people use instead, at every number of gradient steps a rollout."""

from steadyrl.algorithms.published import PUBLISHED, PublishedName
from steadyrl.lab.claims import Claim, greater
from steadyrl.lab.peaks import RECIPE
from steadyrl.lab.study import Condition, Study
from steadyrl.lab.world import world
from steadyrl.policies.numerics import Numerics

ALGORITHMS: dict[str, PublishedName] = {
    "MiniRL": "minirl",
    "GRPO": "grpo",
    "CISPO": "cispo",
    "GSPO": "gspo",
    "DPPO": "dppo_tv",
}


def baselines(numerics: Numerics, mini_batches: int) -> Study:
    """Every objective at one N, with the replay that the paper recommends for it."""
    minirl, *others = ALGORITHMS
    return Study(
        experiment=f"baselines-n{mini_batches}",
        level=numerics,
        title=f"MiniRL and other objectives, N = {mini_batches}, rollouts in {numerics}",
        conditions=tuple(
            Condition(
                name=name,
                config=world(
                    numerics,
                    PUBLISHED[published],
                    mini_batches=mini_batches,
                    routing_replay=RECIPE[mini_batches],
                ),
            )
            for name, published in ALGORITHMS.items()
        ),
        claims=tuple(
            Claim(
                text=f"MiniRL peaks higher than {other} and keeps more of it",
                source="our own: arXiv:2512.01374 compares equations, not runs",
                comparisons=(greater("best_score", minirl, other), greater("kept", minirl, other)),
            )
            for other in others
        ),
    )
