"""The three ways to write the partial results of a chain.

For 3+14-2+9=

    results      17,15,24
    equations    3+14=17;17-2=15;15+9=24
    running      3 17 15 24
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from steadyrl.environments.arithmetic_chain import Chain, chain_text

_NUMBER = r"(?:0|[1-9][0-9]{0,17})"
_QUESTION = rf"{_NUMBER}[+-]{_NUMBER}"
_RESULTS = re.compile(rf"{_NUMBER}(?:,{_NUMBER})*")
_EQUATIONS = re.compile(rf"{_QUESTION}={_NUMBER}(?:;{_QUESTION}={_NUMBER})*")
_RUNNING = re.compile(rf"{_NUMBER}(?: {_NUMBER})+")


class Style(StrEnum):
    """How a response states its steps."""

    RESULTS = "results"
    """Partial results only, between commas."""

    EQUATIONS = "equations"
    """Each step as an equation, between semicolons."""

    RUNNING = "running"
    """The first operand and the running value after it, between spaces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a response says.

    Example:
        Statement(style=Style.EQUATIONS, restated=("3+14", "17-2"), results=(17, 15))
    """

    style: Style

    restated: tuple[str, ...]
    """What it repeats of the question: left-hand sides (equations), the first operand (running)."""

    results: tuple[int, ...]
    """The partial results it states."""


def restatement(style: Style, chain: Chain, results: tuple[int, ...]) -> tuple[str, ...]:
    """What a response in `style` repeats of the question when it states `results`."""
    match style:
        case Style.RESULTS:
            return ()
        case Style.RUNNING:
            return (str(chain[0]),)
        case Style.EQUATIONS:
            lefts = (chain[0], *results[:-1])
            return tuple([chain_text(question) for question in zip(lefts, chain[1:], strict=True)])


def write(style: Style, chain: Chain, results: tuple[int, ...]) -> str:
    """The response in `style` that states `results`, right or wrong, for the steps of `chain`."""
    restated = restatement(style, chain, results)
    match style:
        case Style.RESULTS:
            return ",".join(map(str, results))
        case Style.RUNNING:
            return " ".join((*restated, *map(str, results)))
        case Style.EQUATIONS:
            equations = zip(restated, results, strict=True)
            return ";".join([f"{question}={result}" for question, result in equations])


def read(text: str) -> Statement | None:
    """What `text` states, in the style it is recognised to have; None when it has none exactly."""
    text = text.strip()
    if _RESULTS.fullmatch(text):
        results = tuple(map(int, text.split(",")))
        return Statement(style=Style.RESULTS, restated=(), results=results)
    if _RUNNING.fullmatch(text):
        first, *running = text.split(" ")
        results = tuple(map(int, running))
        return Statement(style=Style.RUNNING, restated=(first,), results=results)
    if _EQUATIONS.fullmatch(text):
        sides = [equation.split("=") for equation in text.split(";")]
        restated = tuple([left for left, _ in sides])
        results = tuple([int(right) for _, right in sides])
        return Statement(style=Style.EQUATIONS, restated=restated, results=results)
    return None
