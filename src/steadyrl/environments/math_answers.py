"""Whether two mathematical answers are the same."""

import logging
from collections.abc import Callable

from steadyrl.environments.extras import require_extra
from steadyrl.environments.isolation import MEMORY_LIMIT, Isolated, IsolationError


def isolated_agreement(
    *, timeout: float, workers: int | None = None, memory: int = MEMORY_LIMIT
) -> Isolated[[str, str], bool]:
    r"""The function (gold, answer) -> whether they agree, in worker processes that stay alive.

    Both are answers alone, plain ("1/2") or in LaTeX ("\frac{1}{2}"), compared by math-verify:
    values and sets rather than spellings, so that 0.5, 1/2 and 50% agree, units are dropped, and
    expressions need not be simplified. A percent also agrees with its number, 50% with 50. A
    list of guesses is a set and agrees with no single value.

    Raises:
        UserError: math-verify is not installed.
    """
    require_extra("math_verify", "math")
    return Isolated(make_agreement, timeout=timeout, workers=workers, memory=memory)


def answers_agree(gold: str, answer: str, *, timeout: float = 5.0) -> bool:
    """Whether `answer` is as good as `gold`; one that takes over `timeout` seconds is not.

    Starts a process for this one comparison. To make many, keep an `isolated_agreement`.

    Raises:
        UserError: math-verify is not installed.
    """
    try:
        with isolated_agreement(timeout=timeout) as agree:
            return agree(gold, answer)
    except IsolationError:
        return False


def make_agreement() -> Callable[[str, str], bool]:
    """The comparison itself, without a time limit. For the worker process."""
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that it has no time limit

    def agree(gold: str, answer: str) -> bool:
        if not answer.strip():
            return False
        if gold.strip() == answer.strip():
            return True
        expected, given = (
            parse(rf"\boxed{{{text}}}", parsing_timeout=None) for text in (gold, answer)
        )
        return bool(verify(expected, given, timeout_seconds=None))

    agree("1/2", "0.5")  # the first comparison takes long, and workers are forked after it
    return agree
