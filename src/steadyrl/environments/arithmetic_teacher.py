"""A teacher for arithmetic chains with a known error rate."""

from typing import Literal

import numpy as np
from pydantic import Field

from steadyrl.base.errors import UserError
from steadyrl.environments.arithmetic import Arithmetic
from steadyrl.environments.arithmetic_chain import Chain
from steadyrl.environments.arithmetic_styles import Style, write
from steadyrl.environments.protocol import Environment, Task
from steadyrl.environments.settings import TeacherSettings


class ArithmeticTeacherSettings(TeacherSettings):
    """Style and error rate of the arithmetic teacher."""

    name: Literal["arithmetic"] = "arithmetic"

    style: Style | Literal["mixed"] = Style.RESULTS
    """Style of the demonstrations. mixed: a random style for each, so that responses to one prompt
    differ in length."""

    error_rate: float = Field(0.25, ge=0.0, lt=1.0)
    """Probability that a stated result is wrong. A whole chain is correct with probability (1 -
    error_rate) ** (operands - 1)."""

    max_offset: int = Field(3, ge=1)
    """Maximum distance of a wrong result from the correct one."""

    def make(self, environment: Environment) -> "ArithmeticTeacher":
        """The teacher.

        Raises:
            UserError: the environment is not arithmetic.
        """
        if not isinstance(environment, Arithmetic):
            raise UserError(
                f"The arithmetic teacher cannot demonstrate on {type(environment).__name__}. Use "
                "it with the arithmetic environment."
            )
        return ArithmeticTeacher(self, environment)


class ArithmeticTeacher:
    """Demonstrates whole chains and carries its mistakes on, as a person would.

    The steps after a mistake continue from the stated value, clamped to [0, max_result].

    Raises:
        UserError: the environment asks for one step per turn.
    """

    def __init__(self, settings: ArithmeticTeacherSettings, environment: Arithmetic) -> None:
        if environment.settings.turns != "single":
            raise UserError(
                "The arithmetic teacher writes whole chains, "
                f"got an environment with turns={environment.settings.turns!r}. Let it demonstrate "
                "on one with turns='single'."
            )
        self.settings = settings
        self._max_result = environment.settings.max_result

    def demonstrate(self, task: Task, generator: np.random.Generator) -> str:
        """Response to the chain of `task`."""
        chain: Chain = task.payload
        value = chain[0]
        results = []
        for operand in chain[1:]:
            value = min(max(value + operand, 0), self._max_result)
            if generator.random() < self.settings.error_rate:
                value = self._wrong(value, generator)
            results.append(value)
        return write(self._style(generator), chain, tuple(results))

    def _style(self, generator: np.random.Generator) -> Style:
        style = self.settings.style
        return tuple(Style)[generator.integers(len(Style))] if style == "mixed" else style

    def _wrong(self, value: int, generator: np.random.Generator) -> int:
        """Another value in [0, max_result], at most `max_offset` away."""
        lowest = max(value - self.settings.max_offset, 0)
        highest = min(value + self.settings.max_offset, self._max_result)
        wrong = int(generator.integers(lowest, highest))
        return wrong if wrong < value else wrong + 1
