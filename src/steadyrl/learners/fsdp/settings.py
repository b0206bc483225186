"""Settings of the FSDP2 learner."""

from typing import Literal

import torch
from pydantic import Field, model_validator

from steadyrl.base.errors import UserError
from steadyrl.learners.protocol import Learner
from steadyrl.learners.settings import LearnerContext, LearnerSettings


class FsdpLearnerSettings(LearnerSettings):
    """A learner whose weights, gradients and moments are sharded over processes by FSDP2."""

    name: Literal["fsdp"] = "fsdp"

    ranks: int = Field(2, ge=1)
    """Number of processes that hold a shard each. With CUDA, each has a GPU of its own."""

    timeout: float = Field(1800.0, gt=0, allow_inf_nan=False)
    """Maximum seconds of one update, one scoring, or one save. Then the run ends with an error."""

    background_saves: bool | Literal["auto"] = "auto"
    """Write checkpoints while training goes on, from copies of weights and moments in main memory,
    12 bytes a parameter divided by the ranks. auto: with CUDA."""

    rounding: Literal["nearest"] = "nearest"
    """Rounding of float32 masters to the bfloat16 weights of each pass, by PyTorch."""

    @model_validator(mode="after")
    def _rounding_does_something(self) -> "FsdpLearnerSettings":
        return self  # there is no choice

    @model_validator(mode="after")
    def _adapter_fits_the_dtype(self) -> "FsdpLearnerSettings":
        if self.lora is not None and self.dtype == "bfloat16" and self.lora.experts:
            raise ValueError(
                "lora.experts is true with dtype 'bfloat16': peft adds the adapter to bfloat16 "
                "experts in bfloat16, where small changes round to nothing. Set dtype to "
                "'float32', or lora.experts to false."
            )
        return self

    @model_validator(mode="after")
    def _head_computes_in_the_dtype(self) -> "FsdpLearnerSettings":
        if self.head_dtype != "model":
            raise ValueError(
                "head_dtype is 'float32', but FSDP2 gives the head's weights to a pass in the "
                "learner's dtype. Leave head_dtype out, or use learner 'local'."
            )
        return self

    def device_type(self) -> Literal["cpu", "cuda"]:
        """The kind of device that the ranks compute on.

        Raises:
            UserError: there are fewer GPUs than ranks.
        """
        if self.device == "cpu" or not torch.cuda.is_available():
            return "cpu"
        count = torch.cuda.device_count()
        if self.ranks > count:
            raise UserError(
                f"learner.ranks is {self.ranks}, but PyTorch finds {count} "
                f"{'GPU' if count == 1 else 'GPUs'}, and each rank needs one of its own. Set "
                f"learner.ranks to {count}, or learner.device to 'cpu'."
            )
        return "cuda"

    def make(self, context: LearnerContext) -> Learner:
        """The learner, whose ranks have been started.

        Raises:
            UserError: there are fewer GPUs than ranks, FSDP2 cannot shard the model, or an
                objective reads router shifts.
        """
        from steadyrl.learners.fsdp.learner import FsdpLearner

        if context.scores_routers:
            raise UserError(
                "The objective reads router shifts, which the learner 'fsdp' does not take. Use "
                "the learner 'local', or another objective."
            )

        return FsdpLearner(self, context)
