"""The base class of every objective: a frozen value that says what is maximized, token by token."""

from abc import abstractmethod
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from steadyrl.base.variants import Variant
from steadyrl.objectives.clipping import ClipMasks
from steadyrl.objectives.terms import TokenTerms


class Objective(Variant):
    """A per-token objective. Called on token terms, it returns what is to be maximized.

    A subclass is complete in one file: its settings are fields, `__call__` computes the objective,
    and `masks` reports the tokens that it bounds. Flags are class attributes, or properties where
    they depend on a field. docs/algorithms/README.md shows an objective from outside this package.

    Example:
        MiniRL(clip_low=0.2, clip_high=0.27)(terms)
    """

    corrects_mismatch: ClassVar[bool] = False
    """Tokens are weighted by pi_theta / mu_theta_old, so that no correction may be added."""

    proportional_to_advantage: ClassVar[bool] = False
    """Rows with zero advantages contribute neither value nor gradient: the learner skips them."""

    reads_responses: ClassVar[bool] = False
    """A token's objective depends on its whole response: the learner keeps its rows together."""

    reads_reference: ClassVar[bool] = False
    """`terms.ref_logprobs` is read: the run keeps the weights with which its stage began."""

    @abstractmethod
    def __call__(self, terms: TokenTerms) -> Float[Tensor, "B T"]:
        """The objective of each token, differentiable with respect to `terms.logprobs`.

        Its values outside `terms.loss_mask` have no weight, but must be finite.
        """
        ...

    def masks(self, terms: TokenTerms) -> ClipMasks:
        """Tokens that the objective clips, truncates or masks, for the metrics. Default: none."""
        return ClipMasks()
