"""What a plan asks that the configuration of a run does not say."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from steadyrl.base.settings import Settings
from steadyrl.engines.engine_settings import PositiveOrAuto


def _devices(value: object) -> object:
    if value in ("auto", "shared") or (isinstance(value, int) and value is not True and value >= 1):
        return value
    raise ValueError(f"got {value!r}, expected: whole number, at least 1, auto, shared")


class PlanSettings(Settings):
    """Devices, their division, and lengths that a plan assumes."""

    gpus: str
    """Number and kind of devices, such as 64xH100. Kinds: H100, H200, B200, A100, MI300X, CPU."""

    engine_gpus: Annotated[int | Literal["auto", "shared"], BeforeValidator(_devices)] = "auto"
    """Devices that sample, while the others train. shared: all do both, in turns. auto: whichever
    fits and takes the shortest step."""

    tensor_parallel: PositiveOrAuto = "auto"
    """Devices of one engine. auto: as `engine.options` of vLLM say, or whichever takes the shortest
    step."""

    prompt_tokens: int = Field(256, ge=1)
    """Tokens of a prompt."""

    response_tokens: PositiveOrAuto = "auto"
    """Mean tokens of a response, of all turns together. auto: half of the maximum."""

    length_spread: float = Field(0.6, ge=0.0, le=3.0)
    """Standard deviation of the tokens of a response, as a share of their mean. Lengths are
    log-normal, cut off at the maximum."""
