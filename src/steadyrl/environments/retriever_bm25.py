"""In-memory retrieval by BM25."""

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field

from steadyrl.base.errors import UserError
from steadyrl.base.extras import require_extra
from steadyrl.environments.retrieval import Passage, RetrieverSettings

_WORD = re.compile(r"\w+")


class BM25Settings(RetrieverSettings):
    """Constants of BM25."""

    name: Literal["bm25"] = "bm25"

    k1: float = Field(1.5, ge=0.0)
    """Term-frequency saturation (k1)."""

    b: float = Field(0.75, ge=0.0, le=1.0)
    """Length normalization (b); 0 disables it."""

    def make(self, passages: Sequence[Passage]) -> "BM25":
        """An index of `passages`."""
        return BM25(self, passages)


class BM25:
    """Ranks passages by the words that title and text share with the query.

    Lucene's variant, computed by bm25s. A word that is in df of N passages and f times in a passage
    of length l adds to its score

        ln(1 + (N - df + 1/2) / (df + 1/2)) * f / (f + k1 (1 - b + b l / mean l))

    Words are lower-case runs of letters and digits. Ties keep the order of the corpus.

    Raises:
        UserError: no passage contains a word, or bm25s is not installed.
    """

    def __init__(self, settings: BM25Settings, passages: Sequence[Passage]) -> None:
        require_extra("bm25s", "qa")
        from bm25s import BM25 as Index

        one_of_each: dict[str, str] = {}  # a word that many passages hold is one object
        words = [
            [one_of_each.setdefault(word, word) for word in _words(f"{p.title} {p.text}")]
            for p in passages
        ]
        if not any(words):
            raise UserError(
                f"BM25 has nothing to search: none of {len(passages)} passages contains a word. "
                "Use questions with paragraphs, or the retriever 'http'."
            )
        self._passages = passages
        self._index = Index(k1=settings.k1, b=settings.b)
        self._index.index(words, show_progress=False)

    def search(self, query: str, count: int) -> list[Passage]:
        """At most `count` passages that share a word with `query`, best first."""
        words = _words(query)
        if not words:
            return []
        return [self._passages[place] for place in best(self._index.get_scores(words), count)]


def best(scores: Float[np.ndarray, " N"], count: int) -> Int[np.ndarray, " C"]:
    """Indices of the `count` highest positive scores, descending; ties keep their order."""
    places = np.flatnonzero(scores > 0)
    if len(places) > count:
        least = np.partition(scores[places], -count)[-count]
        places = places[scores[places] >= least]
    return places[np.argsort(-scores[places], kind="stable")][:count]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
