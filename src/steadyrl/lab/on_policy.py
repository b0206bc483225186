"""Figure 1 of arXiv:2512.01374: one gradient step for each rollout."""

from steadyrl.algorithms.policy_gradient import PolicyGradientSettings
from steadyrl.lab.claims import Claim, collapses, greater, is_stable, not_greater
from steadyrl.lab.study import Condition, Study
from steadyrl.lab.world import MINIRL, world
from steadyrl.objectives import Aggregation, MiniRL
from steadyrl.policies.numerics import Numerics
from steadyrl.records.routing import RoutingReplay

PLAIN, LENGTH_NORM, UNCORRECTED = "MiniRL", "+ length-norm", "- train-infer-IS"
R3, R3_LENGTH_NORM, R3_UNCORRECTED = "+ R3", "+ R3 + length-norm", "+ R3 - train-infer-IS"
OTHERS = (LENGTH_NORM, UNCORRECTED, R3, R3_LENGTH_NORM, R3_UNCORRECTED)
SOURCE = "arXiv:2512.01374, figure 1"

ALGORITHMS = {
    PLAIN: MINIRL,
    LENGTH_NORM: PolicyGradientSettings(aggregation=Aggregation.LENGTH_NORM),
    UNCORRECTED: PolicyGradientSettings(objective=MiniRL(correct_mismatch=False)),
}

CLAIMS = (
    Claim(
        text="MiniRL has the best score of the six",
        source=SOURCE,
        comparisons=tuple(greater("best_score", PLAIN, other) for other in OTHERS),
    ),
    Claim(
        text="MiniRL is stable",
        source=SOURCE,
        comparisons=(is_stable(PLAIN),),
    ),
    Claim(
        text="MiniRL is the most stable of the six",
        source=SOURCE,
        comparisons=tuple(greater("kept", PLAIN, other) for other in OTHERS),
    ),
    Claim(
        text="Length normalization is stable, with a lower score",
        source=SOURCE,
        comparisons=(
            is_stable(LENGTH_NORM),
            greater("best_score", PLAIN, LENGTH_NORM),
        ),
    ),
    Claim(
        text="Without train-inference importance sampling the run collapses, its entropy falls",
        source=SOURCE,
        premise=(collapses(UNCORRECTED),),
        comparisons=(
            greater("kept", PLAIN, UNCORRECTED),
            greater("final_entropy", PLAIN, UNCORRECTED),
        ),
    ),
    Claim(
        text="R3 lowers the mismatch, and gains nothing on-policy",
        source=SOURCE,
        comparisons=(
            greater("log10_mismatch", PLAIN, R3),
            not_greater("best_score", R3, PLAIN),
            not_greater("kept", R3, PLAIN),
        ),
    ),
    Claim(
        text="R3 with length normalization scores lower than length normalization alone",
        source=SOURCE,
        comparisons=(greater("best_score", LENGTH_NORM, R3_LENGTH_NORM),),
    ),
    Claim(
        text="R3 does not save the run without train-inference importance sampling",
        source=SOURCE,
        premise=(collapses(UNCORRECTED),),
        comparisons=(
            collapses(R3_UNCORRECTED),
            greater("kept", PLAIN, R3_UNCORRECTED),
        ),
    ),
)


def figure1(numerics: Numerics) -> Study:
    """On-policy: MiniRL, with length normalization, without the correction; each without and
    with R3.
    """
    plain = [
        Condition(name=name, config=world(numerics, algorithm))
        for name, algorithm in ALGORITHMS.items()
    ]
    replayed = [
        Condition(name=name, config=world(numerics, algorithm, routing_replay=RoutingReplay.R3))
        for name, algorithm in zip(
            (R3, R3_LENGTH_NORM, R3_UNCORRECTED), ALGORITHMS.values(), strict=True
        )
    ]
    return Study(
        experiment="figure1",
        level=numerics,
        title=f"On-policy, N = 1, rollouts in {numerics}",
        conditions=(*plain, *replayed),
        claims=CLAIMS,
    )
