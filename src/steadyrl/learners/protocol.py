"""Interface of learners, which score token batches, take optimizer steps and publish weights.

    score    batch -> batch with old_logprobs
    update   loss terms -> one optimizer step
    publish  -> WeightSource, for engines

The policy may be held by this process or sharded over several. Nothing outside a learner reads its
model, its optimizer or its gradients.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from steadyrl.learners.loss_term import LossTerm
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.objectives.measurements import TokenMeasurements
from steadyrl.policies.reach import Reach
from steadyrl.records.routing import RoutingReplay
from steadyrl.records.token_batch import TokenBatch
from steadyrl.records.weight_source import WeightSource

TRAINER_STATE = "trainer_state.safetensors"
"""File in a saved folder with the optimizer state that a resumed learner needs."""


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
    """Number of optimizer steps since the weights were initialized or loaded."""

    replay: RoutingReplay
    """Source of the expert choices that forward passes use. May be changed between steps."""

    def begin_stage(self, optimizer: OptimizerSettings, temperature: float, *, fresh: bool) -> None:
        """Sets the optimizer and the temperature of a stage.

        Args:
            temperature: Divisor of the logits for batches without a temperature of their own.
            fresh: Reset the moments of the optimizer. The weights are kept.
        """
        ...

    def update(self, terms: Sequence[LossTerm], *, step: int, steps: int) -> Update:
        """Takes one optimizer step on the sum of `terms`.

        Args:
            step: Step of the stage, out of `steps`. Both determine the learning rate.

        Raises:
            NonFiniteError: a loss or a gradient is not finite. The weights are unchanged.
        """
        ...

    def publish(self) -> WeightSource:
        """The current weights."""
        ...

    def save(self, folder: Path) -> None:
        """Writes the trained weights and the optimizer state to `folder`.

        A learner of all weights writes a model that Transformers loads, a learner of an adapter
        one that peft loads.

        Raises:
            NonFiniteError: a weight is not finite.
        """
        ...

    def load(self, folder: Path, *, policy_version: int) -> None:
        """Restores what `save` wrote, to the same bits.

        Raises:
            UserError: the folder holds another model or adapter.
        """
        ...

    def save_reference(self, folder: Path) -> None:
        """Writes the current weights to `folder` as a reference policy, atomically."""
        ...

    def load_reference(self, folder: Path | None) -> None:
        """Loads the reference policy, which computes `ref_logprobs`, from `folder`.

        Args:
            folder: None drops the reference policy.

        Raises:
            UserError: the weights are missing, damaged, or those of another model.
        """
        ...

    def publish_reference(self) -> WeightSource:
        """The weights of the reference policy, which must be loaded."""
        ...


@runtime_checkable
class SavesInBackground(Protocol):
    """A learner that goes on while what it saves is written."""

    policy_version: int

    @property
    def saves_in_background(self) -> bool:
        """Whether it is set to do so."""
        ...

    def begin_save(self, folder: Path) -> None:
        """Begins what `save` does; later updates do not change what is written.

        Raises:
            NonFiniteError: a weight is not finite.
        """
        ...

    def is_saved(self) -> bool:
        """Whether all that was begun is written."""
        ...

    def finish_save(self) -> None:
        """Waits until it is."""
        ...
