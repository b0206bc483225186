import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyrl.base import extras
from steadyrl.base.errors import UserError
from steadyrl.environments.retrieval import Passage, Retriever
from steadyrl.environments.retriever_bm25 import BM25, BM25Settings, best
from tests.closeness import assert_close

WORDS = ("rome", "paris", "river", "the", "of")
passages = st.builds(
    Passage,
    title=st.sampled_from(["Rome", "Paris", ""]),
    text=st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join),
)


def oracle_scores(
    query: list[str], documents: list[list[str]], *, k1: float, b: float
) -> list[float]:
    """The formula of the docstring, term by term."""
    mean = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        score = 0.0
        for word in query:
            df = sum(word in other for other in documents)
            f = document.count(word)
            idf = math.log(1 + (len(documents) - df + 0.5) / (df + 0.5))
            score += idf * f / (f + k1 * (1 - b + b * len(document) / mean)) if f else 0.0
        scores.append(score)
    return scores


@given(
    library=st.lists(passages, min_size=1, max_size=8).filter(
        lambda library: any(p.title or p.text for p in library)
    ),
    query=st.lists(st.sampled_from([*WORDS, "unknown"]), min_size=1, max_size=3),
    count=st.integers(1, 10),
)
def test_passages_come_in_the_order_of_the_formula(
    library: list[Passage], query: list[str], count: int
):
    found = BM25(BM25Settings(k1=1.2, b=0.6), library).search(" ".join(query), count)
    documents = [re.findall(r"\w+", f"{p.title} {p.text}".lower()) for p in library]
    scores = oracle_scores(query, documents, k1=1.2, b=0.6)
    matching = sorted((score for score in scores if score > 0), reverse=True)
    # Passages may be equal, so the scores of what was found are compared.
    score_of = dict(zip(library, scores, strict=True))
    assert_close([score_of[passage] for passage in found], matching[:count], terms=16)


@given(scores=st.lists(st.sampled_from([-1.0, 0.0, 1.0, 2.0, 3.0])), count=st.integers(1, 12))
def test_the_best_are_the_highest_and_among_equals_the_first(scores: list[float], count: int):
    places = best(np.array(scores, dtype=np.float32), count).tolist()
    ranked = sorted(range(len(scores)), key=lambda place: (-scores[place], place))
    assert places == [place for place in ranked if scores[place] > 0][:count]


def test_titles_are_searched_and_words_are_compared_without_case_and_punctuation():
    library = [Passage(title="Élan", text="A shop."), Passage(title="Tiber", text="ROME's river.")]
    retriever = BM25(BM25Settings(), library)
    assert isinstance(retriever, Retriever)
    assert retriever.search("élan!", 5) == library[:1]
    assert retriever.search("(rome)", 5) == library[1:]


@pytest.mark.parametrize("query", ["", " ", "?!", "Carthage"])
def test_a_query_that_matches_nothing_finds_nothing(query: str):
    assert BM25(BM25Settings(), [Passage(title="Rome", text="A town.")]).search(query, 3) == []


@pytest.mark.parametrize(
    "library", [[], [Passage(title="", text="..."), Passage(title="?", text="")]]
)
def test_a_library_without_words_is_refused(library: list[Passage]):
    with pytest.raises(UserError, match=rf"none of {len(library)} passages contains a word. Use"):
        BM25(BM25Settings(), library)


def test_the_missing_package_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(extras, "find_spec", lambda module: None)
    with pytest.raises(UserError, match=r"'bm25s' is not installed. .*'steadyrl\[qa\]'"):
        BM25(BM25Settings(), [Passage(title="Rome", text="A town.")])
