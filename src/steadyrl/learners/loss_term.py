"""Terms of the loss of one optimizer step, each an objective over a token batch."""

from dataclasses import dataclass

from steadyrl.objectives import Aggregation, Objective
from steadyrl.records.token_batch import TokenBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class LossTerm:
    """`scale * aggregate(objective)` over a batch, to be minimized.

    Example:
        LossTerm(batch=batch, objective=NLL(), aggregation=Aggregation.TOKEN_MEAN)
    """

    batch: TokenBatch
    objective: Objective
    aggregation: Aggregation
    scale: float = 1.0

    constant_length: int | None = None
    """Denominator of the aggregation `constant`."""
