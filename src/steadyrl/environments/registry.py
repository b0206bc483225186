"""Environments and teachers by their settings."""

from typing import Annotated

from pydantic import Field

from steadyrl.base.errors import UserError
from steadyrl.environments.arithmetic import Arithmetic, ArithmeticSettings
from steadyrl.environments.arithmetic_teacher import ArithmeticTeacher, ArithmeticTeacherSettings
from steadyrl.environments.custom import CustomSettings, make_custom
from steadyrl.environments.frozen_lake import FrozenLake, FrozenLakeSettings
from steadyrl.environments.hotpot_qa import HotpotQA, HotpotQASettings
from steadyrl.environments.protocol import Environment, Teacher
from steadyrl.environments.reasoning_gym_tasks import ReasoningGym, ReasoningGymSettings
from steadyrl.environments.sokoban import Sokoban, SokobanSettings
from steadyrl.environments.verifiable_math import VerifiableMath, VerifiableMathSettings

EnvironmentSettings = Annotated[
    ArithmeticSettings
    | ReasoningGymSettings
    | VerifiableMathSettings
    | FrozenLakeSettings
    | SokobanSettings
    | HotpotQASettings
    | CustomSettings,
    Field(discriminator="name"),
]
"""Settings of any environment; the field `name` says which."""

TeacherSettings = ArithmeticTeacherSettings
"""Settings of any teacher. There is one today."""


def make_environment(settings: EnvironmentSettings) -> Environment:
    """The environment that `settings` describe.

    Raises:
        UserError: it cannot be built as described; the message says why.
    """
    match settings:
        case ArithmeticSettings():
            return Arithmetic(settings)
        case ReasoningGymSettings():
            return ReasoningGym(settings)
        case VerifiableMathSettings():
            return VerifiableMath(settings)
        case FrozenLakeSettings():
            return FrozenLake(settings)
        case SokobanSettings():
            return Sokoban(settings)
        case HotpotQASettings():
            return HotpotQA(settings)
        case CustomSettings():
            return make_custom(settings)


def longest_episode(settings: EnvironmentSettings) -> int:
    """Turns of the model after which every episode of the environment is over."""
    match settings:
        case ArithmeticSettings(turns="multi"):
            return settings.operands - 1
        case FrozenLakeSettings(rendering="paper") | SokobanSettings(rendering="paper"):
            return settings.moves
        case HotpotQASettings() | CustomSettings():
            return settings.turns
        case _:
            return 1


def make_teacher(settings: TeacherSettings, environment: Environment) -> Teacher:
    """The teacher that `settings` describe, for the tasks of `environment`.

    Raises:
        UserError: it does not know this environment.
    """
    if not isinstance(environment, Arithmetic):
        raise UserError(
            f"The {settings.name} teacher cannot demonstrate on {type(environment).__name__}. "
            "Use it with the arithmetic environment."
        )
    return ArithmeticTeacher(settings, environment)
