"""The base class of every objective: a frozen value that says what is maximized, token by token."""

from abc import abstractmethod

from jaxtyping import Float
from torch import Tensor

from steadyrl.base.variants import Variant
from steadyrl.objectives.clipping import ClipMasks
from steadyrl.objectives.terms import TokenTerms


class Objective(Variant):
    """A per-token objective. Called on token terms, it returns what is to be maximized.

    A subclass is complete in one file: its settings are fields, `__call__` computes the objective,
    and `masks` reports the tokens that it bounds. Flags are class attributes, as in
    `reads_responses: ClassVar[bool] = True`, or properties where they depend on a field.
    docs/algorithms/README.md shows one from outside this package.

    Example:
        MiniRL(clip_low=0.2, clip_high=0.27)(terms)
    """

    @abstractmethod
    def __call__(self, terms: TokenTerms) -> Float[Tensor, "B T"]:
        """The objective of each token, differentiable with respect to `terms.logprobs`.

        Its values outside `terms.loss_mask` have no weight, but must be finite.
        """
        ...

    def masks(self, terms: TokenTerms) -> ClipMasks:
        """Tokens that the objective clips, truncates or masks, for the metrics. Default: none."""
        return ClipMasks()

    @property
    def corrects_mismatch(self) -> bool:
        """Whether tokens are weighted by pi_theta / mu_theta_old. Default: false."""
        return False

    @property
    def proportional_to_advantage(self) -> bool:
        """Whether rows with zero advantages contribute neither value nor gradient. Default: false.

        The learner skips the backward pass of such rows.
        """
        return False

    @property
    def reads_responses(self) -> bool:
        """Whether a token's objective depends on its whole response. Default: false.

        The learner then keeps all rows of a response in one pass.
        """
        return False

    @property
    def reads_reference(self) -> bool:
        """Whether `terms.ref_logprobs` is read. Default: false.

        The run then keeps the weights with which its stage began.
        """
        return False
