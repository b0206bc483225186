"""The three styles in which partial results are written.

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
    """Style in which a response states its steps."""

    RESULTS = "results"
    """Partial results only, separated by commas."""

    EQUATIONS = "equations"
    """One equation per step, separated by semicolons."""

    RUNNING = "running"
    """First operand and all partial results, separated by spaces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """Content of a parsed response.

    Example:
        Statement(style=Style.EQUATIONS, restated=("3+14", "17-2"), results=(17, 15))
    """

    style: Style

    restated: tuple[str, ...]
    """Repeated parts of the question: left-hand sides (equations) or first operand (running)."""

    results: tuple[int, ...]
    """Stated partial results."""


def restatement(style: Style, chain: Chain, results: tuple[int, ...]) -> tuple[str, ...]:
    """Parts of the question that a response in `style` repeats when it states `results`."""
    match style:
        case Style.RESULTS:
            return ()
        case Style.RUNNING:
            return (str(chain[0]),)
        case Style.EQUATIONS:
            lefts = (chain[0], *results[:-1])
            return tuple([chain_text(question) for question in zip(lefts, chain[1:], strict=True)])


def write(style: Style, chain: Chain, results: tuple[int, ...]) -> str:
    """The response in `style` that states `results`, correct or not, for the steps of `chain`."""
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
    """Parses `text`, detecting its style; None if it does not match a style exactly."""
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
