"""Who reflects on a failed attempt, and in what form."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from steadyrl.algorithms.reflection_prompts import ReflectionStyle
from steadyrl.base.settings import Settings
from steadyrl.engines.openai import OpenAISettings
from steadyrl.engines.protocol import Sampling


class SampledReflection(Settings):
    """How a model of this process reflects."""

    style: ReflectionStyle = ReflectionStyle.RULEBOOK
    """In what form attempts are told and lessons drawn."""

    longest: int = Field(8192, ge=1)
    """Characters that a lesson may have."""

    sampling: Sampling = Sampling(temperature=0.5, top_p=0.9)
    """How reflections are drawn; attempts are drawn as the run's `sampling` says. The values are
    those of the paper's code."""


class PolicyReflection(SampledReflection):
    """The policy itself, which is trained on its reflections."""

    name: Literal["policy"] = "policy"

    malformed: Literal["left_out", "zero_reward"] = "left_out"
    """What is learned from a reflection in which no lesson can be read, or that is not over within
    its budget. left_out: nothing, so that a policy is never told of the form. zero_reward: it
    stands in its group with reward 0, as if its second attempt had failed."""

    @model_validator(mode="after")
    def _can_be_learned_from(self) -> "PolicyReflection":
        if self.sampling.temperature == 0:
            raise ValueError(
                "the temperature of reflections is 0: a policy that draws nothing has no "
                "probabilities to learn from. Set a temperature above 0."
            )
        return self


class HeldReflection(SampledReflection):
    """The policy as it was when the stage began. Its reflections are used and not trained on.

    It has an engine of its own, in the numerics of the run's: memory of two more models, one of
    them in the trainer's type.
    """

    name: Literal["held"] = "held"


class ServerReflection(OpenAISettings):
    """A model behind an OpenAI-compatible server. Its reflections are used and not trained on."""

    name: Literal["server"] = "server"

    style: ReflectionStyle = ReflectionStyle.RULEBOOK
    """In what form attempts are told and lessons drawn."""

    longest: int = Field(8192, ge=1)
    """Characters that a lesson may have."""

    at_once: int = Field(8, ge=1)
    """Requests that are under way at the same time."""


class NoReflection(Settings):
    """Nobody: second attempts read the raw record of the first and one generic sentence."""

    name: Literal["none"] = "none"

    style: ReflectionStyle = ReflectionStyle.RULEBOOK
    """In what form attempts are told."""


ReflectionSettings = Annotated[
    PolicyReflection | HeldReflection | ServerReflection | NoReflection,
    Field(discriminator="name"),
]
