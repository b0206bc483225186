"""Settings of the rollout engine."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from steadyrl.base.settings import Settings
from steadyrl.policies.float32_head import HeadDtype
from steadyrl.policies.numerics import Numerics, WeightScaling
from steadyrl.policies.rounding import Rounding


def _positive_or_auto(value: object) -> object:
    if value == "auto" or (isinstance(value, int) and value is not True and value >= 1):
        return value
    raise ValueError(f"Input should be a whole number of 1 or more, or 'auto', got {value!r}")


PositiveOrAuto = Annotated[int | Literal["auto"], BeforeValidator(_positive_or_auto)]


class EngineSettings(Settings):
    """The rollout engine, whose arithmetic is chosen apart from the trainer's."""

    name: Literal["local", "reference"] = "local"
    """local: continuous batching with a key-value cache. reference: the slow oracle."""

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

    max_running: PositiveOrAuto = 512
    """Maximum number of sequences decoded concurrently. auto: as many as `cache_memory` holds at
    their full length."""

    cache_memory: PositiveOrAuto = "auto"
    """Memory for keys and values in MiB. auto: half of what is free when the run starts, a number
    that its config.yaml then holds. Where all sequences do not fit at their full length, keys and
    values are kept in pages, which is slower, and the last sequences begin again when these run
    out."""

    overlap: bool = False
    """Sample each rollout in a second process while the policy learns from the one before it. A
    rollout's weights are then one rollout older than those that the update begins with, which the
    ratio to the engine corrects for: an objective that reads it, or a correction, has to be set.
    The first rollout of the run, and that after each checkpoint, is sampled with the newest weights
    and without overlap, so `journal.checkpoint_every` is part of what is learned."""

    @model_validator(mode="after")
    def _combination_does_something(self) -> "EngineSettings":
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
        for name in ("max_running", "cache_memory"):
            value, default = getattr(self, name), EngineSettings.model_fields[name].default
            if self.name == "reference" and value != default:
                raise ValueError(
                    f"{name} is {value}, but the engine 'reference' writes one sequence at a time "
                    f"and keeps no keys and values. Leave {name} out (it is {default} then), or "
                    "choose the engine 'local'."
                )
        return self

    @property
    def has_noise(self) -> bool:
        """Whether the engine is perturbed to study what that does."""
        return self.routing_noise > 0 or self.weight_noise > 0

    def without_noise(self) -> "EngineSettings":
        """The same engine unperturbed."""
        return self.model_copy(update={"routing_noise": 0.0, "weight_noise": 0.0})
