"""Extraction of answers from responses."""

import re
from enum import StrEnum

from steadyrl.environments.answer_text import closing_brace

_BOX = re.compile(r"\\boxed\s*\{")
_NUMBER = re.compile(r"(?<![\w.])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?!\w)")


class AnswerFormat(StrEnum):
    """Format in which a response states its answer."""

    WHOLE = "whole"
    """The whole response, without surrounding whitespace."""

    BOXED = "boxed"
    r"""Content of the last \boxed{...}."""

    TAG = "tag"
    """Content of the last <answer>...</answer>."""

    NUMBER = "number"
    """Last decimal number in the response, without separators, whatever text surrounds it. For
    models too small to leave other text out."""


def extract_answer(response: str, answer_format: AnswerFormat) -> str | None:
    """The answer in `response`, stripped; None if the response does not follow the format."""
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
    """Sentence that asks a model for the format; empty for the whole response."""
    match answer_format:
        case AnswerFormat.WHOLE:
            return ""
        case AnswerFormat.BOXED:
            return r"Put your final answer in \boxed{}."
        case AnswerFormat.TAG:
            return "Put your final answer between <answer> and </answer>."
        case AnswerFormat.NUMBER:
            return "End with the number that is your final answer."


def write_answer(answer: str, answer_format: AnswerFormat) -> str:
    """A response that gives `answer` in the format."""
    match answer_format:
        case AnswerFormat.WHOLE | AnswerFormat.NUMBER:
            return answer
        case AnswerFormat.BOXED:
            return rf"\boxed{{{answer}}}"
        case AnswerFormat.TAG:
            return f"<answer>{answer}</answer>"


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
