"""Scores of short answers, following the official HotpotQA evaluation.

Source: hotpot_evaluate_v1.py of github.com/hotpotqa/hotpot, which follows SQuAD.
"""

import re
import string
from collections import Counter

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_CLOSED = frozenset({"yes", "no", "noanswer"})


def normalize_answer(text: str) -> str:
    """`text` in lower case, without ASCII punctuation, English articles and extra whitespace."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(answer: str, gold: str) -> bool:
    """Whether the normalized texts are equal."""
    return normalize_answer(answer) == normalize_answer(gold)


def answer_f1(answer: str, gold: str) -> float:
    """Harmonic mean of precision and recall over normalized words, between 0 and 1.

    "yes", "no" and "noanswer" only match themselves.
    """
    given, right = normalize_answer(answer), normalize_answer(gold)
    if given != right and not _CLOSED.isdisjoint({given, right}):
        return 0.0
    given_words, right_words = given.split(), right.split()
    shared = (Counter(given_words) & Counter(right_words)).total()
    return 2 * shared / (len(given_words) + len(right_words)) if shared else 0.0


def answer_reward(answer: str, gold: str, *, min_f1: float) -> float:
    """1 for an exact match; else the F1 score if it is at least `min_f1`, else 0.

    Source: arXiv:2602.13949, appendix B.3, with the complete normalization of the authors' code.
    """
    if exact_match(answer, gold):
        return 1.0
    f1 = answer_f1(answer, gold)
    return f1 if f1 >= min_f1 else 0.0
