"""Base classes of engine settings."""

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
    raise ValueError(f"got {value!r}, expected: whole number, at least 1, auto")


PositiveOrAuto = Annotated[int | Literal["auto"], BeforeValidator(_positive_or_auto)]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineContext:
    """Components that an engine is made of.

    Example:
        EngineContext(policy=policy, seed=7)
    """

    policy: Policy
    """Source of architecture, dtype, device, end tokens and initial weights."""

    seed: int
    """Seed of the thresholds of stochastic rounding, and of noise."""

    progress: Progress = NO_PROGRESS

    candidates: int = 0
    """Number of most probable tokens to record of each sampled token, at most the vocabulary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineMemory:
    """Bytes that an engine takes on this machine for each number that it holds.

    Example:
        EngineMemory(weights=2, cache=2)
    """

    weights: int
    """For each weight; 0 behind a server."""

    cache: int = 0
    """For each number of cached keys and values; 0: there are none here."""

    merging: int = 0
    """For each weight while an adapter is merged into all of them; 0: one weight after another."""


class EngineSettings(Variant):
    """Base class of engine settings. The engine's numerics are independent of the trainer's."""

    overlap: bool = False
    """Sample while the policy trains: in a second process, or in the engines of placement 'ray'.
    Rollouts are then sampled ahead of the updates, as `max_staleness` says; with a second process,
    the run is the same to the bit as it would be in one."""

    max_staleness: int | None = Field(None, ge=0)
    """Number of steps by which rollouts are sampled ahead: the weights that sample a rollout are at
    most this many steps older than those at the start of its update. none: 1 with `overlap`,
    otherwise 0. Above 0, an objective that uses the ratio to the engine, or a correction, is
    required. With `in_flight` finish, rollouts are not sampled ahead of a checkpoint, so
    `journal.checkpoint_every` affects training."""

    in_flight: Literal["finish", "continue"] = "finish"
    """What becomes of generation under way when weights change. finish: the new weights wait until
    all that was begun is sampled, and runs repeat to the bit. continue: it goes on with the new
    weights, each token with the log-probability of those that sampled it, and the next rollouts
    begin at once; no task is skipped or learned from twice, but runs do not repeat to the bit.
    Needs `overlap`."""

    late_groups: Literal["wait", "drop"] = "wait"
    """What becomes of groups that are not sampled within `max_staleness`. wait: the step waits for
    them. drop: other groups take their place, which favors short responses; metrics `dropped_*`
    compare them. Needs `in_flight` continue."""

    rescored_groups: int = Field(0, ge=0)
    """Number of groups of each step that the engine scores again with its present weights, to tell
    the staleness of rollouts (metric `rollout_staleness_kl_k3`) from the training-inference
    discrepancy. Needs sampling.temperature 1 without top_p and top_k."""

    @model_validator(mode="after")
    def _check_in_flight(self) -> "EngineSettings":
        if self.in_flight == "continue" and not self.overlap:
            raise ValueError(
                "in_flight is 'continue', but overlap is false: in one process nothing is in "
                "flight during an update. Set overlap to true, or in_flight to 'finish'."
            )
        if self.late_groups == "drop" and self.in_flight == "finish":
            raise ValueError(
                "late_groups is 'drop', but in_flight is 'finish': weights wait for all groups, so "
                "none is late. Set in_flight to 'continue', or late_groups to 'wait'."
            )
        return self

    @model_validator(mode="after")
    def _check_staleness(self) -> "EngineSettings":
        if self.overlap and self.max_staleness == 0:
            raise ValueError(
                "overlap is true with max_staleness 0: every rollout would wait for the update "
                "before it, so that nothing overlaps. Set max_staleness to 1 or more, or overlap "
                "to false."
            )
        return self

    @property
    def steps_ahead(self) -> int:
        """`max_staleness` as a number."""
        return int(self.overlap) if self.max_staleness is None else self.max_staleness

    @abstractmethod
    def make(self, context: EngineContext) -> Engine:
        """The engine, with the policy's weights.

        Raises:
            UserError: the engine does not support the model, or is not installed.
        """

    def memory(self, itemsize: int) -> EngineMemory:
        """What the engine takes on this machine.

        Args:
            itemsize: Bytes of a weight of the learner.
        """
        return EngineMemory(weights=itemsize)

    @property
    def has_noise(self) -> bool:
        """Whether the engine is perturbed, for studies."""
        return False

    def without_noise(self) -> "EngineSettings":
        """The settings without perturbation."""
        return self

    def resolve(self, device: torch.device) -> "EngineSettings":
        """The settings with automatic values resolved for `device`."""
        return self

    def resolve_from(self, began: "EngineSettings") -> "EngineSettings":
        """The settings with automatic values as resolved when the run `began`."""
        return self

    def check_learner(self, dtype: str) -> None:
        """Checks that all settings have an effect with a learner in `dtype`.

        Raises:
            ValueError: one has none; the message gives the remedy.
        """


class ModelEngineSettings(EngineSettings):
    """Base class of settings of engines with a model in this process."""

    numerics: Numerics = Numerics.BFLOAT16
    """Numerics of the engine. fp8, int8 and int4 round on top of the trainer's dtype."""

    head_dtype: HeadDtype = "model"
    """Dtype of the output head. model: dtype of the model, also for fp8, int8 and int4, which never
    round the head. float32: logits keep full precision; set learner.head_dtype too."""

    weight_scaling: WeightScaling = WeightScaling.CHANNEL
    """Granularity of weight scales for fp8, int8 and int4."""

    rounding: Rounding = "stochastic"
    """Rounding of a float32 learner's weights to bfloat16. nearest: small updates never reach an
    engine whose weights started on the bfloat16 grid. stochastic: unbiased, with one fixed random
    threshold per weight."""

    routing_noise: float = Field(0.0, ge=0.0, allow_inf_nan=False)
    """Standard deviation of Gaussian noise on the logarithms of the router scores that select
    experts, to study routing disagreement. Gate weights are unaffected. Routing replay r3 removes
    its effect."""

    weight_noise: float = Field(0.0, ge=0.0, lt=1.0)
    """Relative standard deviation of Gaussian noise on every matrix entry, redrawn at each sync, to
    study numerical mismatch."""

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
                f"rounding is 'nearest', but numerics are {self.numerics.value!r}, and it only "
                "applies to bfloat16. Leave rounding out, or set numerics to 'bfloat16'."
            )
        if self.numerics is Numerics.FLOAT32 and self.head_dtype == "float32":
            raise ValueError(
                "head_dtype is 'float32', but so are numerics: the head computes in float32 "
                "already. Leave head_dtype out, or choose other numerics."
            )
        return self

    def number_size(self, itemsize: int) -> int:
        """Bytes of a weight or an activation, if one of the learner has `itemsize`.

        fp8, int8 and int4 are emulated in the learner's type.
        """
        dtypes = {Numerics.FLOAT32: torch.float32, Numerics.BFLOAT16: torch.bfloat16}
        return dtypes[self.numerics].itemsize if self.numerics in dtypes else itemsize

    def memory(self, itemsize: int) -> EngineMemory:
        """What the engine takes: its weights, those without noise, and merged ones in float32."""
        copies = 2 if self.has_noise else 1
        return EngineMemory(
            weights=copies * self.number_size(itemsize), merging=torch.float32.itemsize
        )

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
            candidates=context.candidates,
        )

    @property
    def has_noise(self) -> bool:
        """Whether the engine is perturbed, for studies."""
        return self.routing_noise > 0 or self.weight_noise > 0

    def without_noise(self) -> "ModelEngineSettings":
        """The settings without perturbation."""
        return self.model_copy(update={"routing_noise": 0.0, "weight_noise": 0.0})

    def check_learner(self, dtype: str) -> None:
        """Checks that `head_dtype` has an effect with a learner in `dtype`."""
        if self.numerics in WEIGHT_ROUNDINGS and self.head_dtype == dtype:
            raise ValueError(
                "engine.head_dtype is 'float32', but under engine.numerics "
                f"{self.numerics.value!r} the head computes in learner.dtype, which is 'float32' "
                "already. Leave head_dtype out, or set learner.dtype to 'bfloat16'."
            )
