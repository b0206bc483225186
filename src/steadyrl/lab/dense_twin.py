"""Figure 1 without experts: what of it is about Mixture-of-Experts, and what is not."""

from steadyrl.lab.claims import Claim, greater, similar
from steadyrl.lab.on_policy import ALGORITHMS, LENGTH_NORM, PLAIN, UNCORRECTED
from steadyrl.lab.study import Condition, Study
from steadyrl.lab.world import world
from steadyrl.policies.model_settings import SmallDense
from steadyrl.policies.numerics import Numerics

MOE = "MiniRL, experts"


def dense_twin(numerics: Numerics) -> Study:
    """Figure 1's objectives on a dense model, beside MiniRL on the model with experts."""
    dense = SmallDense(mlp_width=128)  # the width that two experts of 64 have together
    return Study(
        experiment="dense-twin",
        level=numerics,
        title=f"A dense model, N = 1, rollouts in {numerics}",
        conditions=(
            *(
                Condition(name=name, config=world(numerics, algorithm, model=dense))
                for name, algorithm in ALGORITHMS.items()
            ),
            Condition(name=MOE, config=world(numerics)),
        ),
        claims=(
            Claim(
                text="The mismatch of a dense model is smaller than that of one with experts",
                source="arXiv:2510.11370, dense Qwen3-8B against Qwen3-30B-A3B",
                comparisons=(greater("log10_mismatch", MOE, PLAIN),),
            ),
            Claim(
                text="A dense model does without train-inference importance sampling",
                source="our own: the paper trains no dense model",
                comparisons=(
                    similar("kept", PLAIN, UNCORRECTED),
                    similar("best_score", PLAIN, UNCORRECTED),
                ),
            ),
            Claim(
                text="Length normalization scores lower on a dense model too",
                source="our own: the paper trains no dense model",
                comparisons=(greater("best_score", PLAIN, LENGTH_NORM),),
            ),
        ),
    )
