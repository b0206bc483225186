"""What verl's configuration of an actor means for one of our losses."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from pydantic import ValidationError

from steadyrl.base.errors import UserError
from steadyrl.objectives import (
    CISPO,
    DPPO,
    GRPO,
    GSPO,
    Divergence,
    DualClip,
    GSPOToken,
    MiniRL,
    Objective,
    Reinforce,
)

UNTRUNCATED = 1e9
"""A threshold that leaves weights alone: verl bounds them at exp(20), about 4.9e8."""

HAND_OVER = (
    "+actor_rollout_ref.actor.policy_loss.rollout_correction='${algorithm.rollout_correction}'"
)
"""Option of verl that gives the loss the settings of the rollout correction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The bounds of a loss under verl's names, each with what it is by default."""

    clip_ratio_low: float = 0.2
    clip_ratio_high: float = 0.2
    clip_ratio_c: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """How a loss is made of verl's bounds."""

    build: Callable[[Bounds], Objective]

    reads: tuple[str, ...]
    """The bounds that it has."""

    reads_old: bool = True
    """Whether it depends on pi_old."""


def _dppo(divergence: Divergence) -> Loss:
    def build(bounds: Bounds) -> Objective:
        if bounds.clip_ratio_low != bounds.clip_ratio_high:
            raise UserError(
                f"steadyrl.dppo has one threshold, got clip_ratio_low={bounds.clip_ratio_low} and "
                f"clip_ratio_high={bounds.clip_ratio_high}. Set both to it."
            )
        return DPPO(
            divergence=divergence, threshold=bounds.clip_ratio_low, weight_cap=bounds.clip_ratio_c
        )

    return Loss(build=build, reads=_ALL, reads_old=False)


def _clipped(kind: Callable[..., Objective], cap: str | None = None) -> Loss:
    def build(bounds: Bounds) -> Objective:
        own = {} if cap is None else {cap: bounds.clip_ratio_c}
        return kind(clip_low=bounds.clip_ratio_low, clip_high=bounds.clip_ratio_high, **own)

    return Loss(build=build, reads=_CLIPS if cap is None else _ALL)


_CLIP_RATIO = 0.2
"""The default of `clip_ratio`, which verl does not read where both others are set."""

_CLIPS = ("clip_ratio_low", "clip_ratio_high")
_ALL = (*_CLIPS, "clip_ratio_c")

LOSSES: dict[str, Loss] = {
    "minirl": _clipped(MiniRL, cap="weight_cap"),
    "dppo_tv": _dppo(Divergence.TOTAL_VARIATION),
    "dppo_kl": _dppo(Divergence.KL),
    "grpo": _clipped(GRPO),
    "dual_clip": _clipped(DualClip, cap="ratio_cap"),
    "gspo": _clipped(GSPO),
    "gspo_token": _clipped(GSPOToken),
    "cispo": _clipped(CISPO),
    "reinforce": Loss(build=lambda _: Reinforce(), reads=(), reads_old=False),
}
"""Our losses by name; verl knows them as `steadyrl.NAME`."""


def objective_for(name: str, config: Any) -> Objective:
    """The objective of the loss `name` with the bounds of verl's `config`.

    Raises:
        UserError: a setting cannot be honored.
    """
    loss, bounds = LOSSES[name], _bounds(config)
    for field in fields(Bounds):
        value = getattr(bounds, field.name)
        if field.name not in loss.reads and value != field.default:
            raise UserError(
                f"steadyrl.{name} does not read {field.name}, got {value}. Leave it at "
                f"{field.default}, or choose another loss_mode."
            )
    for field in fields(config.policy_loss):
        if field.name in ("loss_mode", "rollout_correction") or field.name.startswith("_"):
            continue
        if getattr(config.policy_loss, field.name) != field.default:
            raise UserError(
                f"steadyrl.{name} does not read policy_loss.{field.name}, which belongs to another "
                f"loss of verl. Leave it at {field.default}."
            )
    try:
        return loss.build(bounds)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"steadyrl.{name} cannot use the clip ratios {bounds}: {first['loc'][0]}: "
            f"{first['msg']}. Change clip_ratio_low, clip_ratio_high or clip_ratio_c."
        ) from error


def _bounds(config: Any) -> Bounds:
    """The bounds, by verl's rule that `clip_ratio` stands in for one that is null."""
    low, high = (
        config.clip_ratio if value is None else value
        for value in (config.clip_ratio_low, config.clip_ratio_high)
    )
    if config.clip_ratio not in (_CLIP_RATIO, low, high):
        raise UserError(
            f"clip_ratio is {config.clip_ratio}, but verl reads clip_ratio_low={low} and "
            f"clip_ratio_high={high} instead. Set these two."
        )
    return Bounds(clip_ratio_low=low, clip_ratio_high=high, clip_ratio_c=config.clip_ratio_c)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutCorrection:
    """The settings of verl's rollout correction that a loss depends on."""

    level: str | None
    threshold: float | str
    batch_normalize: bool
    rejection: str | None
    bypass: bool

    @classmethod
    def of(cls, config: Any) -> "RolloutCorrection":
        """Those that the actor was given; verl's defaults stand where it was given none."""
        given: Mapping[str, Any] = config.policy_loss.rollout_correction
        return cls(
            level=given.get("rollout_is"),
            threshold=given.get("rollout_is_threshold", 2.0),
            batch_normalize=bool(given.get("rollout_is_batch_normalize", False)),
            rejection=given.get("rollout_rs"),
            bypass=bool(given.get("bypass_mode", False)),
        )

    @property
    def obstacle(self) -> str | None:
        """Why the weights are not pi_old / mu_old of each token; None: they are."""
        if self.level != "token":
            return f"rollout_is is {self.level!r}. Set it to token"
        if not _is_at_least(self.threshold, UNTRUNCATED):
            return (
                f"rollout_is_threshold {self.threshold} bounds it before the loss does. Set it to "
                f"{UNTRUNCATED:.0e}, since clip_ratio_c bounds the weight"
            )
        if self.batch_normalize:
            return "rollout_is_batch_normalize is True. Set it to False"
        return None

    def check_bypass(self, name: str) -> None:
        """Checks that the loss `name` can do without pi_old, which `bypass_mode` does not compute.

        Raises:
            UserError: it cannot, or the correction asks for more than the loss does.
        """
        if LOSSES[name].reads_old:
            raise UserError(
                f"steadyrl.{name} reads pi_old, which verl replaces by the rollout's policy in "
                "bypass_mode. Set algorithm.rollout_correction.bypass_mode to False."
            )
        for option, value in (("rollout_is", self.level), ("rollout_rs", self.rejection)):
            if value is not None:
                raise UserError(
                    f"{option} is {value!r}, but in bypass_mode only verl's own loss of that name "
                    f"computes it. Set algorithm.rollout_correction.{option} to null."
                )


def _is_at_least(threshold: float | str, value: float) -> bool:
    # "0.5_5.0" masks weights outside, and Python would read "1_5" as 15.
    return "_" not in str(threshold) and float(threshold) >= value
