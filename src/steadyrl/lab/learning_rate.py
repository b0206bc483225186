"""The learning rate of all studies, by a rule stated before them.

Of 1e-4, 2e-4, 4e-4 and 8e-4, the largest at which on-policy MiniRL with FP8 rollouts keeps at least
95% of its best reward to the end, in the mean of three seeds that no other study uses.
"""

from steadyrl.lab.study import Condition, Study
from steadyrl.lab.world import world
from steadyrl.policies.numerics import Numerics

CANDIDATES = (1e-4, 2e-4, 4e-4, 8e-4)


def learning_rate_choice(numerics: Numerics) -> Study:
    """On-policy MiniRL at each candidate: a choice, which claims nothing."""
    return Study(
        experiment="learning-rate",
        level=numerics,
        title=f"Learning rates, N = 1, rollouts in {numerics}",
        conditions=tuple(
            Condition(name=f"{rate:.0e}", config=world(numerics, learning_rate=rate))
            for rate in CANDIDATES
        ),
        claims=(),
        seeds=(100, 101, 102),
    )
