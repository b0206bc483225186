"""Which part of a response is its answer."""

import re
from enum import StrEnum

from steadyrl.environments.answer_text import closing_brace

_BOX = re.compile(r"\\boxed\s*\{")
_NUMBER = re.compile(r"(?<![\w.])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?!\w)")


class AnswerFormat(StrEnum):
    """How the answer is cut out of a response."""

    WHOLE = "whole"
    """The whole response without surrounding whitespace."""

    BOXED = "boxed"
    r"""What the last \boxed{...} holds."""

    TAG = "tag"
    """What the last <answer>...</answer> holds."""

    NUMBER = "number"
    """The last number in decimal digits, without separators, whatever words stand around it: for
    models too small to leave these out."""


def extract_answer(response: str, answer_format: AnswerFormat) -> str | None:
    """The answer in `response`, stripped; None when the format is not followed."""
    match answer_format:
        case AnswerFormat.WHOLE:
            return response.strip()
        case AnswerFormat.BOXED:
            return _last_boxed(response)
        case AnswerFormat.TAG:
            return _last_tagged(response)
        case AnswerFormat.NUMBER:
            numbers = _NUMBER.findall(response)
            return numbers[-1].replace(",", "") if numbers else None


def format_instruction(answer_format: AnswerFormat) -> str:
    """The sentence that asks a model for the format; empty for the whole response."""
    match answer_format:
        case AnswerFormat.WHOLE:
            return ""
        case AnswerFormat.BOXED:
            return r"Put your final answer in \boxed{}."
        case AnswerFormat.TAG:
            return "Put your final answer between <answer> and </answer>."
        case AnswerFormat.NUMBER:
            return "End with the number that is your final answer."


def _last_boxed(response: str) -> str | None:
    boxes = [*_BOX.finditer(response)]
    if not boxes:
        return None
    start = boxes[-1].end()
    end = closing_brace(response, start)
    return None if end is None else response[start:end].strip()


def _last_tagged(response: str) -> str | None:
    before, closed, _ = response.rpartition("</answer>")
    _, opened, answer = before.rpartition("<answer>")
    return answer.strip() if opened and closed else None
