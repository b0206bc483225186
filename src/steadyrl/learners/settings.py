"""What the settings of learners have in common."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor

from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.base.variants import Variant
from steadyrl.learners.protocol import Learner
from steadyrl.policies.float32_head import HeadDtype
from steadyrl.policies.lora import LoraSettings
from steadyrl.policies.passes import PASS_COST
from steadyrl.policies.policy import Policy
from steadyrl.policies.rounding import Rounding
from steadyrl.records.routing import RoutingReplay


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerContext:
    """What a learner is made of.

    Example:
        LearnerContext(policy=policy, replay=RoutingReplay.NONE, seed=7)
    """

    policy: Policy
    """Its model is trained in place."""

    replay: RoutingReplay
    """Whose routing the forward passes use at first."""

    seed: int
    """Determines stochastic rounding."""

    masters: Mapping[str, Tensor] | None = None
    """Weights in the precision that they had before the model was given its type."""

    progress: Progress = NO_PROGRESS


class LearnerSettings(Variant):
    """Settings that make a learner: how the trainer computes."""

    lora: LoraSettings | None = None
    """Train a LoRA adapter by peft. None: train all weights."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the forward and backward pass. Master weights are float32 in any case, with all bits
    that the checkpoint holds."""

    head_dtype: HeadDtype = "model"
    """Type of the output head's product. float32: logits of a bfloat16 model lose no digits; set
    engine.head_dtype too. Weights of the head are float32 then, unless it shares them with the
    embedding."""

    rounding: Rounding = "stochastic"
    """How float32 masters become bfloat16 weights after each step. nearest: small updates never
    reach weights that begin on the bfloat16 grid. stochastic: unbiased, with a threshold for each
    weight that is drawn once."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA when there is one."""

    micro_batch_tokens: int = Field(8192, ge=1)
    """Positions whose gradient is computed at the same time, padding included. One row at least;
    under an objective or a correction of whole responses, all rows of one."""

    pass_cost: int = Field(PASS_COST, ge=0)
    """Positions that take as long as one more pass. Rows of like length share a pass, so that
    padding and passes cost least together."""

    share_prefixes: Literal["auto", "always", "never"] = "auto"
    """Compute once what rows of a group begin with. auto: where the model can, and a quarter of
    the positions is saved."""

    logits_memory: int = Field(1024, ge=0)
    """MiB of probabilities over the vocabulary that are kept for the backward pass. Where they
    would need more, they are computed twice."""

    activation_checkpointing: bool = False
    """Recompute each layer in the backward pass: less memory, more time."""

    skip_no_signal: bool = True
    """Leave rows with zero advantage out of the passes. The gradient is the same."""

    measure_skipped: bool = True
    """Score the rows left out, without gradient, so that metrics speak of every token."""

    @model_validator(mode="after")
    def _head_dtype_does_something(self) -> "LearnerSettings":
        if self.head_dtype == self.dtype:
            raise ValueError(
                "head_dtype is 'float32', but so is dtype: the head computes in float32 already. "
                "Leave head_dtype out, or set dtype to 'bfloat16'."
            )
        return self

    @model_validator(mode="after")
    def _rounding_does_something(self) -> "LearnerSettings":
        if self.rounding == "nearest" and self.dtype == "float32":
            raise ValueError(
                "rounding is 'nearest', but dtype is 'float32', whose weights are their own "
                "masters. Leave rounding out, or set dtype to 'bfloat16'."
            )
        return self

    @model_validator(mode="after")
    def _adapter_fits_the_dtype(self) -> "LearnerSettings":
        if self.lora is None or self.dtype == "float32":
            return self
        if self.rounding == "nearest":
            raise ValueError(
                "rounding is 'nearest', but lora trains float32 weights beside a frozen model: "
                "nothing is rounded. Leave rounding out."
            )
        if self.lora.experts:
            raise ValueError(
                "lora.experts is true with dtype 'bfloat16': peft adds the adapter to bfloat16 "
                "experts in bfloat16, where small changes round to nothing. Set dtype to "
                "'float32', or lora.experts to false."
            )
        return self

    @abstractmethod
    def make(self, context: LearnerContext) -> Learner:
        """The learner.

        Raises:
            UserError: it cannot train the model.
        """
