r"""Extraction of the answer stated in a sentence: 45 in "So 21 + 24 = 45 slices are left."

Numbers joined by an operation or by "or" are one answer, so that a restated sum or a second guess
is not reduced to its last number.
"""

import re

from steadyrl.environments.answer_text import closing_brace, strip_wrappers
from steadyrl.environments.math_units import UNIT_NAMES, singular

_TEXT = re.compile(r"\\text\s*\{")
_WORD = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{2,}")
_MATHS = re.compile(r"\$([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_BOX = re.compile(r"\\boxed\s*\{")
_MARKED = re.compile(
    r"(?<![\\A-Za-z])(?:answer|result|total|sum|value|solution)\s*(?:is|are|:|=|equals)\s*:?\s*(.+)",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"[.!?](?=\s)|\n")
_NUMBER = re.compile(r"(?<![\w.\\])[-+]?\\?\$?\d+(?:,\d{3})*(?:\.\d+)?(?:\\?%)?")
_JOINED = re.compile(
    r"\s*(?:[-+*/x^,;]|to|and|\\times|\\cdot|plus|minus|times)\s*[-+]?\s*(?:[a-z]+\s*)?|.*\bor\b.*",
    re.IGNORECASE | re.DOTALL,
)
_BOUND = re.compile(
    r"(?:\bnot|\b(?:more|less|greater|fewer|other|larger|smaller) than|\bat (?:least|most)"
    r"|\b(?:over|under|above|below|between)|[<>]|\\(?:le|ge|ne)|!)\s*$",
    re.IGNORECASE,
)
_MIN_WORDS = 3


def stated_answer(answer: str, gold: str) -> str:
    """The answer stated by `answer` if it is a sentence, else `answer`.

    A sentence has at least three words more than `gold`. Empty if it does not state exactly one
    answer.
    """
    if len(_WORD.findall(answer)) < _MIN_WORDS + len(_WORD.findall(gold)):
        marked = _MARKED.search(strip_wrappers(answer))
        return _last(marked[1]) if marked else answer
    if boxes := [*_BOX.finditer(answer)]:
        end = closing_brace(answer, boxes[-1].end())
        return answer[boxes[-1].end() : end].strip() if end else ""
    sentence = _last(strip_wrappers(answer))
    if marks := [*_MARKED.finditer(sentence)]:
        tail = marks[-1][1]
        return tail if len(_WORD.findall(tail)) < _MIN_WORDS else _last_number(tail)
    formulas = [*_MATHS.finditer(sentence)]
    if formulas and not _NUMBER.search(sentence[formulas[-1].end() :]):
        return next(group for group in formulas[-1].groups() if group).strip()
    return _last_number(sentence)


def _last(text: str) -> str:
    """Last sentence of `text`."""
    sentences = [sentence.strip() for sentence in _SENTENCE.split(text)]
    return next((sentence for sentence in reversed(sentences) if sentence), "")


def _last_number(sentence: str) -> str:
    """Last number of `sentence`, with everything joined to it and its unit."""
    numbers = [*_NUMBER.finditer(sentence)]
    if not numbers:
        return ""
    first = len(numbers) - 1
    while first and _JOINED.fullmatch(sentence[numbers[first - 1].end() : numbers[first].start()]):
        first -= 1
    start, end = numbers[first].start(), numbers[-1].end()
    if _BOUND.search(sentence[:start]):
        return ""
    unit = re.match(r"\s*([A-Za-z]+)", sentence[end:])
    if unit and singular(unit[1].lower()) in UNIT_NAMES:
        end += unit.end()
    return sentence[start:end].strip()
