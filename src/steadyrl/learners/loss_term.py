"""What one optimizer step minimizes: a sum of terms, each an objective over a token batch."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from steadyrl.objectives import Aggregation, Limited, TokenTerms, unlimited
from steadyrl.records.token_batch import TokenBatch

Objective = Callable[[TokenTerms], Float[Tensor, "B T"]]
Limits = Callable[[TokenTerms], Limited]


@dataclass(frozen=True, slots=True, kw_only=True)
class LossTerm:
    """`scale * aggregate(objective)` over a batch, to be minimised.

    Example:
        LossTerm(batch=batch, objective=nll, aggregation=Aggregation.TOKEN_MEAN)
    """

    batch: TokenBatch
    objective: Objective
    aggregation: Aggregation
    scale: float = 1.0

    constant_length: int | None = None
    """Denominator of the aggregation `constant`."""

    proportional_to_advantage: bool = False
    """The term is zero, and so is its gradient, on rows whose advantages are zero."""

    reads_responses: bool = False
    """The objective of a token depends on its whole response, so that all rows of one have to be in
    the same pass."""

    reads_reference: bool = False
    """The objective reads `ref_logprobs`."""

    limits: Limits = unlimited
    """Which tokens meet a limit of the objective, for the metrics."""
