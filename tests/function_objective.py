"""An objective from a function, for tests that look at its terms or choose its values."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from steadyrl.objectives import Objective, TokenTerms

TokenFunction = Callable[[TokenTerms], Tensor]


class FunctionObjective(Objective):
    """`function` of token terms, with the flags of the objective that it stands for."""

    function: TokenFunction
    like: Any = None
    """The objective whose flags it has; None: the defaults."""

    @property
    def proportional_to_advantage(self) -> bool:
        return self.like is not None and self.like.proportional_to_advantage

    @property
    def reads_reference(self) -> bool:
        return self.like is not None and self.like.reads_reference

    def __call__(self, terms: TokenTerms) -> Tensor:
        return self.function(terms)
