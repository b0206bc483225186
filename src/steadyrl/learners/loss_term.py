"""Terms of the loss of one optimizer step, each an objective over a token batch."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from steadyrl.objectives import Aggregation, Objective, token_weights
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

    @property
    def weights(self) -> Float[Tensor, "B T"]:
        """Weight of each token of the batch, such that the loss is `-(weights * objective).sum()`.

        The denominators count the whole batch, so parts of it may be summed anywhere.
        """
        return self.scale * token_weights(
            self.batch.loss_mask,
            self.batch.group_ids,
            self.aggregation,
            response_ids=self.batch.response_ids,
            constant_length=self.constant_length,
        )

    def learned_rows(self, *, skip_no_signal: bool) -> Bool[Tensor, " B"]:
        """Rows that need a backward pass.

        Args:
            skip_no_signal: Leave out rows whose gradient is zero.
        """
        if self.objective.proportional_to_advantage and skip_no_signal:
            return self.batch.has_signal
        return torch.ones(len(self.batch), dtype=torch.bool)
