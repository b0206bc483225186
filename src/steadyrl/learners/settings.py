"""Settings shared by all learners."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor

from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.base.variants import Variant
from steadyrl.learners.fsdp.hosts import RankHost
from steadyrl.learners.protocol import Learner
from steadyrl.policies.float32_head import HeadDtype
from steadyrl.policies.lora import LoraSettings
from steadyrl.policies.passes import PASS_COST
from steadyrl.policies.policy import Policy
from steadyrl.policies.rounding import Rounding
from steadyrl.records.routing import RoutingReplay


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerContext:
    """Components of a learner.

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

    scores_routers: bool = False
    """Whether an objective reads router shifts."""

    rank_host: RankHost | None = None
    """Where the ranks of a sharded learner run; None: on this machine."""


class LearnerSettings(Variant):
    """Base class of the settings of learners."""

    lora: LoraSettings | None = None
    """Train a LoRA adapter by peft. None: train all weights."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    """Dtype of the forward and backward pass. Master weights are always float32, with the full
    precision of the checkpoint."""

    head_dtype: HeadDtype = "model"
    """Dtype of the output head's matrix product. float32 keeps the precision of the logits of a
    bfloat16 model; set engine.head_dtype, too. The head's weights are then float32, unless they are
    tied to the embedding."""

    rounding: Rounding = "stochastic"
    """Rounding of float32 masters to bfloat16 weights after each step. nearest: small updates never
    reach weights that start on the bfloat16 grid. stochastic: unbiased, with a fixed random
    threshold for each weight."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA if available."""

    micro_batch_tokens: int = Field(8192, ge=1)
    """Maximum positions of a micro-batch, including padding. A micro-batch has at least one row, or
    all rows of a response if the objective or its correction is defined on whole responses."""

    pass_cost: int = Field(PASS_COST, ge=0)
    """Overhead of a pass, in positions of equal duration. Rows of similar length share a pass, so
    that the total cost of padding and passes is minimal."""

    share_prefixes: Literal["auto", "always", "never"] = "auto"
    """Compute the common prefix of a group's rows once. auto: if the model supports it and it saves
    a quarter of the positions."""

    logits_memory: int = Field(1024, ge=0)
    """Maximum MiB of vocabulary probabilities stored for the backward pass. If more are needed,
    they are recomputed."""

    activation_checkpointing: bool = False
    """Recompute each layer in the backward pass, to trade time for memory."""

    skip_no_signal: bool = True
    """Skip rows with zero advantage. The gradient is the same."""

    measure_skipped: bool = True
    """Score skipped rows without gradient, so that metrics cover every token."""

    rollout_logprobs: Literal["engine", "trainer"] = "engine"
    """Log-probabilities that count as the engine's. trainer: those of the trainer before the
    update, so that the mismatch is exactly 0, as if engine and trainer computed the same bits: the
    ground truth for comparisons. Needs a float32 trainer, and a float32 engine without noise whose
    rollouts are not sampled ahead: it differs from the trainer by rounding alone."""

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
            UserError: the learner cannot train the model.
        """
