"""A teacher who writes chains of arithmetic and errs at a known rate."""

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
    """How the teacher writes, and how often it errs."""

    name: Literal["arithmetic"] = "arithmetic"

    style: Style | Literal["mixed"] = Style.RESULTS
    """How the steps are written. mixed: every response in a style drawn at random, so that answers
    to one prompt differ in length."""

    error_rate: float = Field(0.25, ge=0.0, lt=1.0)
    """Probability that a step's stated result is wrong. Whole chains are right at the rate
    (1 - error_rate) ** (operands - 1)."""

    max_offset: int = Field(3, ge=1)
    """How far a wrong result lies from the right one, at most."""

    def make(self, environment: Environment) -> "ArithmeticTeacher":
        """The teacher.

        Raises:
            UserError: it does not know this environment.
        """
        if not isinstance(environment, Arithmetic):
            raise UserError(
                f"The arithmetic teacher cannot demonstrate on {type(environment).__name__}. Use "
                "it with the arithmetic environment."
            )
        return ArithmeticTeacher(self, environment)


class ArithmeticTeacher:
    """Demonstrates whole chains, with mistakes carried on as a person would.

    After a mistake the following steps continue from the stated value. A value that would leave
    [0, max_result] by that is stated as the nearest bound.

    Raises:
        UserError: the environment asks one step a turn.
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
        """A response to the chain of `task`."""
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
