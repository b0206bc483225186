"""The figures with gradients of any norm.

The paper does not say whether it clips the norm of its gradients. The studies clip it at 1, as is
usual, and a sum over tokens exceeds that at nearly every step, an average over them far less often:
objectives then differ in how much of their gradient's size is left to them too. These studies clip
no norm and change nothing else, to see whether clipping it decides anything.
"""

import math
from collections.abc import Callable

from steadyrl.lab.study import Study, changed
from steadyrl.policies.numerics import Numerics
from steadyrl.run.config import RunConfig


def at_any_norm(figure: Callable[[Numerics], Study], numerics: Numerics) -> Study:
    """`figure` without a bound on the norm of the gradient."""
    return figure(numerics).varied(_at_any_norm, level="any-norm", title="gradients of any norm")


def _at_any_norm(config: RunConfig) -> RunConfig:
    optimizer = config.optimizer.model_copy(update={"gradient_clip": math.inf})
    return changed(config, optimizer=optimizer.model_dump())
