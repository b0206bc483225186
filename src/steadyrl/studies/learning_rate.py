"""The learning rate of all studies, by a rule stated before them.

Of 1e-4, 2e-4, 4e-4 and 8e-4, the largest at which on-policy MiniRL with FP8 rollouts keeps at least
95% of its best reward to the end, in the mean of three seeds that no other study uses.
"""

from steadyrl.policies.numerics import Numerics
from steadyrl.studies.claims import Claim, greater
from steadyrl.studies.study import Condition, Study
from steadyrl.studies.world import LEARNING_RATE, world

CANDIDATES = (1e-4, 2e-4, 4e-4, 8e-4)


def learning_rate_choice(numerics: Numerics) -> Study:
    """On-policy MiniRL at each candidate."""
    return Study(
        name=f"learning-rate-{numerics}",
        title=f"Learning rates, N = 1, rollouts in {numerics}",
        conditions=tuple(
            Condition(name=f"{rate:.0e}", config=world(numerics, learning_rate=rate))
            for rate in CANDIDATES
        ),
        claims=(
            Claim(
                text=f"At {LEARNING_RATE:.0e} the run keeps 95% of its best reward",
                source="the rule above",
                comparisons=(greater("kept", f"{LEARNING_RATE:.0e}", 0.95),),
            ),
        ),
        seeds=(100, 101, 102),
    )
