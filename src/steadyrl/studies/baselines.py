"""MiniRL against the objectives people use instead, at every number of gradient steps a rollout."""

from steadyrl.algorithms.published import PUBLISHED, PublishedName
from steadyrl.policies.numerics import Numerics
from steadyrl.studies.claims import Claim, greater
from steadyrl.studies.peaks import RECIPE
from steadyrl.studies.study import Condition, Study
from steadyrl.studies.world import world

ALGORITHMS: tuple[PublishedName, ...] = ("minirl", "grpo", "cispo", "gspo", "dppo_tv")


def baselines(numerics: Numerics) -> Study:
    """Every objective with the replay that the paper recommends for its N."""
    conditions = tuple(
        Condition(
            name=_name(algorithm, mini_batches),
            config=world(
                numerics,
                PUBLISHED[algorithm],
                mini_batches=mini_batches,
                routing_replay=replay,
            ),
        )
        for mini_batches, replay in RECIPE.items()
        for algorithm in ALGORITHMS
    )
    claims = tuple(
        Claim(
            text=f"At N = {mini_batches}, MiniRL peaks higher than {algorithm} and keeps more",
            source="arXiv:2512.01374, appendix A compares the objectives, no run does",
            comparisons=(
                greater(
                    "best_score", _name("minirl", mini_batches), _name(algorithm, mini_batches)
                ),
                greater("kept", _name("minirl", mini_batches), _name(algorithm, mini_batches)),
            ),
        )
        for mini_batches in RECIPE
        for algorithm in ALGORITHMS[1:]
    )
    return Study(
        name=f"baselines-{numerics}",
        title=f"MiniRL and other objectives, rollouts in {numerics}",
        conditions=conditions,
        claims=claims,
    )


def _name(algorithm: str, mini_batches: int) -> str:
    return f"{algorithm}, N = {mini_batches}"
