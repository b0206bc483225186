"""What trains a policy: scores token batches, takes optimizer steps, publishes weights.

    score    batch -> batch with old_logprobs
    update   loss terms -> one optimizer step
    publish  -> WeightSource, for engines

The policy may be whole in this process, or in shards that several hold. Nothing outside a learner
reads its model, its optimizer or its gradients.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from steadyrl.learners.loss_term import LossTerm
from steadyrl.learners.measurements import TokenMeasurements
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.policies.reach import Reach
from steadyrl.records.routing import RoutingReplay
from steadyrl.records.token_batch import TokenBatch
from steadyrl.records.weight_source import WeightSource

TRAINER_STATE = "trainer_state.safetensors"
"""File in a saved folder that holds what a resumed learner needs beside the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """Results of one optimizer step."""

    loss: float
    gradient_norm: float
    """Before clipping."""

    learning_rate: float
    reach: Reach
    measurements: TokenMeasurements


@runtime_checkable
class Scorer(Protocol):
    """Scores token batches with a policy."""

    @property
    def max_positions(self) -> int | None:
        """Maximum number of tokens in a row; None: no limit."""
        ...

    def score(self, batch: TokenBatch) -> TokenBatch:
        """`batch` with `old_logprobs`, and with `old_routing` if updates on it will replay it."""
        ...


@runtime_checkable
class Learner(Scorer, Protocol):
    """Trains a policy."""

    policy_version: int
    """Optimizer steps since the weights were made."""

    replay: RoutingReplay
    """Whose routing the forward passes use. It may be changed between steps."""

    def begin_stage(self, optimizer: OptimizerSettings, temperature: float, *, fresh: bool) -> None:
        """Sets what a stage trains with.

        Args:
            temperature: Logits are divided by it, where a batch gives no temperature of its own.
            fresh: Reset the moments of the optimizer. Weights stay.
        """
        ...

    def update(self, terms: Sequence[LossTerm], *, step: int, steps: int) -> Update:
        """Takes one optimizer step on the sum of `terms`.

        Args:
            step: Step of the stage, out of `steps`; both determine the learning rate.

        Raises:
            NonFiniteError: a loss or a gradient is not finite. The weights have not changed.
        """
        ...

    def publish(self) -> WeightSource:
        """The present weights."""
        ...

    def save(self, folder: Path) -> None:
        """Writes to `folder` a model that Transformers loads, and the state of the optimizer.

        Raises:
            NonFiniteError: a weight is not finite.
        """
        ...

    def load(self, folder: Path, *, policy_version: int) -> None:
        """Restores what `save` wrote, to the same bits.

        Raises:
            UserError: the folder holds another model.
        """
        ...

    def save_reference(self, folder: Path) -> None:
        """Writes the present weights to `folder`, all or nothing, to be a reference policy."""
        ...

    def load_reference(self, folder: Path | None) -> None:
        """Makes the weights in `folder` the policy whose `ref_logprobs` loss terms read.

        Args:
            folder: None drops the reference policy.

        Raises:
            UserError: the weights are missing, damaged, or those of another model.
        """
        ...

    def publish_reference(self) -> WeightSource:
        """The weights of the reference policy; there must be one."""
        ...
