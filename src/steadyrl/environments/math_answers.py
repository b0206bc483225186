"""Comparison of mathematical answers in isolated worker processes."""

import logging
from collections.abc import Callable

from steadyrl.base.extras import require_extra
from steadyrl.base.isolation import MEMORY_LIMIT, Isolated, IsolationError
from steadyrl.environments.answer_formats import AnswerFormat
from steadyrl.environments.judge_settings import JudgeSettings

Agree = Callable[..., bool]
"""Function (gold, answer, problem="", require_simplified=False) -> whether they agree."""


class MathJudgeSettings(JudgeSettings):
    """Comparison of mathematical answers in worker processes."""

    require_simplified: bool | None = None
    """Whether answers must be simplified: 45 instead of 21 + 24. None: only if the answer is the
    whole response."""

    def requires_simplified(self, answer_format: AnswerFormat) -> bool:
        """Whether answers in `answer_format` must be simplified."""
        if self.require_simplified is None:
            return answer_format is AnswerFormat.WHOLE
        return self.require_simplified


def isolated_agreement(
    *, timeout: float, workers: int | None = None, memory: int = MEMORY_LIMIT
) -> Isolated[..., bool]:
    r"""`agree` of the module math_agreement in persistent worker processes.

    Arguments are answers without surrounding text, plain ("1/2") or in LaTeX ("\frac{1}{2}").
    Values and sets are compared instead of spellings: 0.5, 1/2 and 50% agree. A list of guesses is
    a set and never agrees with a single value.

    Raises:
        UserError: math-verify is not installed.
    """
    require_extra("math_verify", "math")
    return Isolated(make_agreement, timeout=timeout, workers=workers, memory=memory)


def answers_agree(gold: str, answer: str, problem: str = "", *, timeout: float = 5.0) -> bool:
    """Whether `answer` agrees with `gold`; False if the comparison exceeds `timeout` seconds.

    Units that `gold` lacks are ignored if `problem` mentions them or is empty.

    Starts a process for one comparison. For many comparisons, keep an `isolated_agreement`.

    Raises:
        UserError: math-verify is not installed.
    """
    try:
        with isolated_agreement(timeout=timeout) as agree:
            return agree(gold, answer, problem)
    except IsolationError:
        return False


def make_agreement() -> Agree:
    """The comparison without a time limit, for the worker process."""
    from steadyrl.environments.math_agreement import agree

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that it has no time limit
    agree("x + 1", "1 + x")  # loads SymPy and the grammar, which would count as the first call
    return agree
