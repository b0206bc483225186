"""What the settings of rollout engines have in common."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import BeforeValidator, Field, model_validator

from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.base.variants import Variant
from steadyrl.engines.engine_model import EngineModel
from steadyrl.engines.protocol import Engine
from steadyrl.policies.float32_head import HeadDtype
from steadyrl.policies.numerics import WEIGHT_ROUNDINGS, Numerics, WeightScaling
from steadyrl.policies.policy import Policy
from steadyrl.policies.rounding import Rounding


def _positive_or_auto(value: object) -> object:
    if value == "auto" or (isinstance(value, int) and value is not True and value >= 1):
        return value
    raise ValueError(f"Input should be a whole number of 1 or more, or 'auto', got {value!r}")


PositiveOrAuto = Annotated[int | Literal["auto"], BeforeValidator(_positive_or_auto)]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineContext:
    """What an engine is made of.

    Example:
        EngineContext(policy=policy, seed=7)
    """

    policy: Policy
    """Gives architecture, type, device and end tokens, and the first weights."""

    seed: int
    """Determines the thresholds of stochastic rounding, and noise."""

    progress: Progress = NO_PROGRESS


class EngineSettings(Variant):
    """Settings that make a rollout engine, whose arithmetic is chosen apart from the trainer's."""

    overlap: bool = False
    """Sample each rollout in a second process while the policy learns from the one before it. A
    rollout's weights are then one rollout older than those that the update begins with, which the
    ratio to the engine corrects for: an objective that reads it, or a correction, has to be set.
    The first rollout of the run, and that after each checkpoint, is sampled with the newest weights
    and without overlap, so `journal.checkpoint_every` is part of what is learned."""

    @abstractmethod
    def make(self, context: EngineContext) -> Engine:
        """The engine, holding the policy's weights.

        Raises:
            UserError: it cannot serve the model, or is not installed.
        """

    @property
    def has_noise(self) -> bool:
        """Whether the engine is perturbed to study what that does."""
        return False

    def without_noise(self) -> "EngineSettings":
        """The same engine unperturbed."""
        return self

    def resolve(self, device: torch.device) -> "EngineSettings":
        """The settings with what they leave to the start of a run on `device`."""
        return self

    def resolve_from(self, began: "EngineSettings") -> "EngineSettings":
        """The settings, in which what was decided when the run `began` is as it was decided."""
        return self

    def check_learner(self, dtype: str) -> None:
        """Returns where everything that is set does something beside a learner in `dtype`.

        Raises:
            ValueError: something does not; the message says what to change.
        """


class ModelEngineSettings(EngineSettings):
    """An engine around a model of this process."""

    numerics: Numerics = Numerics.BFLOAT16
    """What it computes in. fp8, int8 and int4 round on top of the trainer's type."""

    head_dtype: HeadDtype = "model"
    """Type of the output head's weights and product. model: that of the model, also under fp8, int8
    and int4, which never round the head. float32: logits lose no digits; set learner.head_dtype
    too."""

    weight_scaling: WeightScaling = WeightScaling.CHANNEL
    """Which weights share one scale under fp8, int8 and int4."""

    rounding: Rounding = "stochastic"
    """How a float32 learner's weights become bfloat16 ones. nearest: small updates never reach an
    engine whose weights began on the bfloat16 grid. stochastic: unbiased, with a threshold for each
    weight that is drawn once."""

    routing_noise: float = Field(0.0, ge=0.0, allow_inf_nan=False)
    """Makes routing differ from the trainer's, to study it: each choice of experts is the top-k of
    scores with Gaussian noise of this standard deviation on their logarithms. Gate weights stay
    live. Routing replay r3 removes it."""

    weight_noise: float = Field(0.0, ge=0.0, lt=1.0)
    """Makes numerics differ from the trainer's, to study it: Gaussian noise of this relative
    standard deviation on every matrix entry, drawn anew at each sync."""

    @model_validator(mode="after")
    def _check_combination(self) -> "ModelEngineSettings":
        plain = self.numerics in (Numerics.FLOAT32, Numerics.BFLOAT16)
        if plain and self.weight_scaling is not WeightScaling.CHANNEL:
            raise ValueError(
                f"weight_scaling is {self.weight_scaling.value!r}, but numerics are "
                f"{self.numerics.value!r}, which have no scales. Leave weight_scaling out, or "
                "choose fp8, int8 or int4."
            )
        if self.rounding == "nearest" and self.numerics is not Numerics.BFLOAT16:
            raise ValueError(
                f"rounding is 'nearest', but numerics are {self.numerics.value!r}, and it says how "
                "weights become bfloat16. Leave rounding out, or set numerics to 'bfloat16'."
            )
        if self.numerics is Numerics.FLOAT32 and self.head_dtype == "float32":
            raise ValueError(
                "head_dtype is 'float32', but so are numerics: the head computes in float32 "
                "already. Leave head_dtype out, or choose other numerics."
            )
        if self.overlap and self.has_noise:
            raise ValueError(
                "overlap is true with routing_noise or weight_noise: held-out tasks are answered "
                "without this noise, by an engine of their own, and overlapped runs have one "
                "engine. Set overlap to false, or both kinds of noise to 0."
            )
        return self

    def engine_model(self, context: EngineContext) -> EngineModel:
        """The engine's copy of the policy."""
        return EngineModel(
            context.policy,
            numerics=self.numerics,
            weight_scaling=self.weight_scaling,
            record_routing=context.policy.hook is not None,
            rounding=self.rounding,
            seed=context.seed,
            head_dtype=self.head_dtype,
            routing_noise=self.routing_noise,
            weight_noise=self.weight_noise,
        )

    @property
    def has_noise(self) -> bool:
        """Whether the engine is perturbed to study what that does."""
        return self.routing_noise > 0 or self.weight_noise > 0

    def without_noise(self) -> "ModelEngineSettings":
        """The same engine unperturbed."""
        return self.model_copy(update={"routing_noise": 0.0, "weight_noise": 0.0})

    def check_learner(self, dtype: str) -> None:
        """Returns where the head's type is another one than that of the learner."""
        if self.numerics in WEIGHT_ROUNDINGS and self.head_dtype == dtype:
            raise ValueError(
                "engine.head_dtype is 'float32', but under engine.numerics "
                f"{self.numerics.value!r} the head computes in learner.dtype, which is 'float32' "
                "already. Leave head_dtype out, or set learner.dtype to 'bfloat16'."
            )
