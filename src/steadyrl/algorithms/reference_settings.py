"""How strongly a stage is held to the weights with which it began."""

from typing import Any

from pydantic import Field, field_validator, model_validator

from steadyrl.base.settings import Settings
from steadyrl.learners.loss_term import Objective
from steadyrl.objectives import ReferenceEstimator, penalized


class ReferenceKL(Settings):
    """A penalty on the divergence from the weights with which the stage began.

    Above a coefficient of 0 the trainer holds those weights a second time, in its own type, and
    scores every row under them: memory of one more model, and one more forward pass. Rows without
    advantage are no longer left out of the passes, since the penalty moves them too.
    """

    coefficient: float = Field(0.0, ge=0, allow_inf_nan=False)
    """Weight of the divergence in the loss, beside an objective of weight 1."""

    estimator: ReferenceEstimator = ReferenceEstimator.K3
    """What is differentiated: k3 as in GRPO, or k2, whose gradient is that of the divergence of the
    policy from the reference."""

    @field_validator("estimator", mode="before")
    @classmethod
    def _has_a_gradient(cls, value: Any) -> Any:
        if value == "k1":
            raise ValueError(
                "the estimator is 'k1', whose gradient is grad log pi: its expectation is 0, so "
                "that it would hold nothing back. Use 'k3', or 'k2'."
            )
        return value

    @model_validator(mode="after")
    def _estimator_is_read(self) -> "ReferenceKL":
        if not self.is_on and self.estimator is not ReferenceEstimator.K3:
            raise ValueError(
                f"the estimator is {self.estimator.value!r}, but the coefficient is 0, so that "
                "nothing is estimated. Set a coefficient above 0, or leave both out."
            )
        return self

    @property
    def is_on(self) -> bool:
        """Whether there is anything to be held to."""
        return self.coefficient > 0


def with_penalty(objective: Objective, settings: ReferenceKL, *, scale: float = 1.0) -> Objective:
    """`objective` less the penalty, where that is on.

    Args:
        scale: What the loss term multiplies the objective by, and the penalty not.
    """
    if not settings.is_on:
        return objective
    return penalized(objective, settings.coefficient / scale, settings.estimator)
