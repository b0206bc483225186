"""Settings of every objective and correction, and the functions that they stand for."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal

from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from steadyrl.base.settings import Settings
from steadyrl.learners.loss_term import Limits, Objective
from steadyrl.objectives import (
    Divergence,
    Limited,
    MismatchLevel,
    TokenTerms,
    cispo,
    cispo_limits,
    corrected,
    dppo,
    dppo_limits,
    dual_clip,
    dual_clip_limits,
    grpo,
    grpo_limits,
    gspo,
    gspo_limits,
    gspo_token,
    masked_mismatch,
    masking_limits,
    minirl,
    minirl_limits,
    reinforce,
    truncated_mismatch,
    truncation_limits,
    unlimited,
)


class MiniRL(Settings):
    """arXiv:2512.01374, equation 7."""

    name: Literal["minirl"] = "minirl"

    clip_low: float = Field(0.2, gt=0)
    """Tokens with A < 0 stop at a ratio below 1 - clip_low. `.inf` switches it off."""

    clip_high: float = Field(0.27, gt=0)
    """Tokens with A > 0 stop at a ratio above 1 + clip_high. `.inf` switches it off."""

    weight_cap: float = Field(5.0, gt=0)
    """Upper bound of the weight pi_theta / mu_old. `.inf` switches it off."""

    correct_mismatch: bool = True
    """False: the ablation without train-inference importance sampling."""


class GRPO(Settings):
    """arXiv:2402.03300, as written in arXiv:2512.01374, appendix A."""

    name: Literal["grpo"] = "grpo"
    clip_low: float = Field(0.2, gt=0)
    clip_high: float = Field(0.27, gt=0)


class CISPO(Settings):
    """arXiv:2506.13585, as written in arXiv:2512.01374, appendix A."""

    name: Literal["cispo"] = "cispo"
    clip_low: float = Field(0.2, gt=0)
    clip_high: float = Field(0.27, gt=0)


class GSPO(Settings):
    """arXiv:2507.18071, equation 5."""

    name: Literal["gspo"] = "gspo"

    clip_low: float = Field(3e-4, gt=0)
    """Responses with A < 0 stop at a sequence ratio below 1 - clip_low. `.inf` switches it off."""

    clip_high: float = Field(4e-4, gt=0)
    """Responses with A > 0 stop at a sequence ratio above 1 + clip_high. `.inf` switches it off."""


class GSPOToken(Settings):
    """arXiv:2507.18071, equation 13: for advantages that differ within a response."""

    name: Literal["gspo_token"] = "gspo_token"
    clip_low: float = Field(3e-4, gt=0)
    clip_high: float = Field(4e-4, gt=0)


class DualClip(Settings):
    """Dual-clip PPO, arXiv:1912.09729."""

    name: Literal["dual_clip"] = "dual_clip"
    clip_low: float = Field(0.2, gt=0)
    clip_high: float = Field(0.2, gt=0)

    ratio_cap: float = Field(3.0, gt=1)
    """Tokens with A < 0 stop at a ratio above it. `.inf` switches it off."""


class DPPO(Settings):
    """arXiv:2602.04879, equations 11 and 12."""

    name: Literal["dppo"] = "dppo"

    divergence: Divergence = Divergence.TOTAL_VARIATION
    """How far pi_theta is from mu_old, seen from the sampled token against all others."""

    threshold: float = Field(0.15, gt=0)
    """Tokens that move away stop at a divergence above it: the authors' settings are 0.15 for
    total_variation and 0.05 for kl. `.inf` switches it off."""

    weight_cap: float = Field(20.0, gt=0)
    """Upper bound of the weight pi_theta / mu_old. `.inf` switches it off."""


class Reinforce(Settings):
    """A log pi, without any correction."""

    name: Literal["reinforce"] = "reinforce"


ObjectiveSettings = Annotated[
    MiniRL | GRPO | CISPO | GSPO | GSPOToken | DualClip | DPPO | Reinforce,
    Field(discriminator="name"),
]


class NoCorrection(Settings):
    """The objective as it is."""

    name: Literal["none"] = "none"


class Truncation(Settings):
    """Weights min(m, cap), of the mismatch m = pi_old / mu_old."""

    name: Literal["truncation"] = "truncation"

    level: MismatchLevel = MismatchLevel.TOKEN
    """Of what the mismatch is taken."""

    cap: float = Field(2.0, gt=0)
    """Upper bound of the weights. `.inf` switches it off."""


class Masking(Settings):
    """Weights m if low <= m <= high and 0 otherwise, of the mismatch m = pi_old / mu_old."""

    name: Literal["masking"] = "masking"

    level: MismatchLevel = MismatchLevel.TOKEN
    """Of what the mismatch is taken."""

    low: float = Field(0.5, ge=0)
    """A mismatch below it gives no gradient. 0 switches it off."""

    high: float = Field(5.0, gt=0)
    """A mismatch above it gives no gradient. `.inf` switches it off."""

    @model_validator(mode="after")
    def _bounds_leave_room(self) -> "Masking":
        if not self.low <= 1 <= self.high or self.low == self.high:
            raise ValueError(
                f"low is {self.low} and high is {self.high}, but a mismatch of 1 is agreement, "
                "which would be masked, or all but it. Set low to 1 or below and high to 1 or "
                "above, and not both to 1."
            )
        return self


CorrectionSettings = Annotated[NoCorrection | Truncation | Masking, Field(discriminator="name")]


OBJECTIVES: dict[str, Callable[..., Tensor]] = {
    "minirl": minirl,
    "grpo": grpo,
    "cispo": cispo,
    "gspo": gspo,
    "gspo_token": gspo_token,
    "dual_clip": dual_clip,
    "dppo": dppo,
    "reinforce": reinforce,
}
CORRECTIONS: dict[str, Callable[..., Tensor]] = {
    "truncation": truncated_mismatch,
    "masking": masked_mismatch,
}


LIMITS: dict[str, Callable[..., Limited]] = {
    "minirl": minirl_limits,
    "grpo": grpo_limits,
    "cispo": cispo_limits,
    "gspo": gspo_limits,
    "gspo_token": gspo_limits,
    "dual_clip": dual_clip_limits,
    "dppo": dppo_limits,
    "reinforce": unlimited,
    "none": unlimited,
    "truncation": truncation_limits,
    "masking": masking_limits,
}


def make_objective(
    settings: ObjectiveSettings, correction: CorrectionSettings | None = None
) -> Objective:
    """The objective, corrected if it is to be, as a function of token terms alone."""
    plain = partial(OBJECTIVES[settings.name], **_options(settings))
    if correction is None or isinstance(correction, NoCorrection):
        return plain
    weights = partial(CORRECTIONS[correction.name], **_options(correction))
    return partial(_corrected, plain, weights)


def make_limits(settings: ObjectiveSettings, correction: CorrectionSettings) -> Limits:
    """Which tokens meet a limit of the objective or its correction, of token terms alone."""
    of_objective = partial(LIMITS[settings.name], **_options(settings))
    of_correction = partial(LIMITS[correction.name], **_options(correction))
    return partial(_joined_limits, of_objective, of_correction)


def corrects_mismatch(settings: ObjectiveSettings) -> bool:
    """Whether the objective weighs tokens by pi_theta / mu_old by itself."""
    return isinstance(settings, DPPO) or (
        isinstance(settings, MiniRL) and settings.correct_mismatch
    )


def reads_responses(settings: ObjectiveSettings, correction: CorrectionSettings) -> bool:
    """Whether the objective of a token depends on its whole response."""
    of_sequences = (
        isinstance(correction, Truncation | Masking) and correction.level is not MismatchLevel.TOKEN
    )
    return isinstance(settings, GSPO | GSPOToken) or of_sequences


def _options(settings: Settings) -> dict[str, Any]:
    return settings.model_dump(exclude={"name"})


def _corrected(objective: Objective, weights: Objective, terms: TokenTerms) -> Float[Tensor, "B T"]:
    return corrected(objective(terms), weights(terms))


def _joined_limits(objective: Limits, correction: Limits, terms: TokenTerms) -> Limited:
    return objective(terms) | correction(terms)
