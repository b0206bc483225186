"""Base class of objectives: frozen settings that compute the value to maximize for each token."""

from abc import abstractmethod
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from steadyrl.base.variants import Variant
from steadyrl.objectives.clipping import ClipMasks
from steadyrl.objectives.terms import TokenTerms


class Objective(Variant):
    """A per-token objective to maximize, computed from token terms.

    A subclass fits in one file: its settings are fields, `__call__` computes the objective, and
    `masks` reports the tokens that it clips or masks. Flags are class attributes, or properties if
    they depend on a field. docs/algorithms/README.md shows a user-defined objective.

    Example:
        MiniRL(clip_low=0.2, clip_high=0.27)(terms)
    """

    corrects_mismatch: ClassVar[bool] = False
    """Whether tokens are weighted by pi_theta / mu_theta_old, so no correction may be added."""

    proportional_to_advantage: ClassVar[bool] = False
    """Whether rows with zero advantages contribute neither value nor gradient, so the learner may
    skip them."""

    reads_responses: ClassVar[bool] = False
    """Whether a token's objective depends on its whole response, so the learner keeps the rows of a
    response together."""

    reads_reference: ClassVar[bool] = False
    """Whether `terms.ref_logprobs` is read, so the run keeps the initial weights of the stage."""

    reads_router: ClassVar[bool] = False
    """Whether `terms.router_shift` is read, so the learner scores the routers before and in each
    update, which takes a forward pass each time."""

    reads_candidates: ClassVar[int] = 0
    """Number of most probable tokens of the engine that `terms.candidates` holds in the place of
    each token. The run has the engine record them. 0: none are read."""

    @abstractmethod
    def __call__(self, terms: TokenTerms) -> Float[Tensor, "B T"]:
        """Objective of each token, differentiable with respect to `terms.logprobs`.

        Values outside `terms.loss_mask` are ignored, but must be finite.
        """
        ...

    def masks(self, terms: TokenTerms) -> ClipMasks:
        """Tokens that the objective clips, truncates or masks out, for metrics. Default: none."""
        return ClipMasks()
