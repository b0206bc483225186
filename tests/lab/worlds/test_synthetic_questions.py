import re
from collections import Counter

import pytest

from steadyrl.base.errors import UserError
from steadyrl.environments.protocol import Split
from steadyrl.environments.splits import split_of
from steadyrl.lab.worlds.synthetic_questions import Row, SyntheticQuestions, synthetic_rows
from steadyrl.policies.tokenizers import PRINTABLE

STYLES = pytest.mark.parametrize("compact", [False, True])


def world(**settings: object) -> dict[Split, list[Row]]:
    return synthetic_rows(SyntheticQuestions(**settings))


def paragraphs(row: Row) -> dict[str, str]:
    return {title: " ".join(sentences) for title, sentences in row["context"]}


def fact(text: str, about: str) -> str:
    """What a paragraph says, read from its sentences by patterns of our own."""
    patterns = {
        "teacher": r"(?:a student of|Teacher:) ([^.]+)\.",
        "town": r"(?:grew up in|is from) ([^.]+)\.",
        "year": r"(?:born in|Born:) (\d{4})\.",
        "job": r"(?:was a|Job:) (\w+)\.",
    }
    return re.findall(patterns[about], text)[-1]


def asked_about(question: str) -> str:
    words = {"born": "year", "older": "year", "profession": "job", "job": "job"}
    return next((about for word, about in words.items() if word in question), "town")


def solved(row: Row) -> str:
    """The answer, from the question and its ten paragraphs alone."""
    question, known = row["question"], paragraphs(row)
    about = asked_about(question)
    people = re.findall(r"[A-Z][a-z]{3}(?: [A-Z][a-z]{4})?(?=\W)", question.partition(" ")[2])
    if row["type"] == "bridge":
        (person,) = people
        return fact(known[fact(known[person], "teacher")], about)
    values = {person: fact(known[person], about) for person in people}
    if about == "town":
        return "yes" if len(set(values.values())) == 1 else "no"
    return min(values, key=lambda person: int(values[person]))


@STYLES
def test_every_question_is_answered_by_its_own_paragraphs(compact: bool):
    for rows in world(people=120, compact=compact).values():
        assert [row["answer"] for row in rows] == [solved(row) for row in rows]


@STYLES
def test_a_supporting_fact_names_the_sentence_that_tells_it(compact: bool):
    for row in world(people=120, compact=compact)[Split.TRAIN]:
        told = []
        for title, sentence in row["supporting_facts"]:
            told.append(dict(row["context"])[title][sentence])
        about = asked_about(row["question"])
        first = "teacher" if row["type"] == "bridge" else about
        assert fact(told[0], first)
        assert fact(told[1], about)
        if row["type"] == "bridge":
            assert fact(told[0], "teacher") == row["supporting_facts"][1][0]
            assert fact(told[1], about) == row["answer"]


def test_a_question_stands_among_ten_different_paragraphs():
    places: Counter[int] = Counter()
    for row in world()[Split.TRAIN]:
        titles = [title for title, _ in row["context"]]
        assert len(set(titles)) == len(titles) == 10
        places[titles.index(row["supporting_facts"][0][0])] += 1
    assert min(places[place] for place in range(10)) > 0.5 * places.total() / 10


def test_kinds_and_answers_are_mixed():
    rows = world()[Split.TRAIN]
    kinds = Counter(row["type"] for row in rows)
    assert kinds["bridge"] == 3 * kinds["comparison"]
    comparisons = Counter(row["answer"] for row in rows if row["type"] == "comparison")
    assert abs(comparisons["yes"] - comparisons["no"]) <= 2
    first_named = [
        re.search(r"first, (\w+)", row["question"])[1] == row["answer"].split()[0]
        for row in rows
        if row["question"].startswith("Who")
    ]
    assert 0.4 < sum(first_named) / len(first_named) < 0.6
    start = Counter(row["type"] for row in rows[:100])
    assert 10 <= start["comparison"] <= 40  # shuffled: a quarter is expected


@STYLES
def test_splits_share_no_person_and_so_no_question(compact: bool):
    rows_of = world(compact=compact)
    people = {
        split: {title for row in rows for title in paragraphs(row)}
        for split, rows in rows_of.items()
    }
    assert all(split_of(name) == split for split, names in people.items() for name in names)
    assert sum(map(len, people.values())) == 500
    questions = [row["question"] for rows in rows_of.values() for row in rows]
    assert len(set(questions)) == len(questions)


@pytest.mark.parametrize("seed", range(8))
def test_no_two_people_are_compared_twice(seed: int):
    for rows in world(people=100, seed=seed).values():
        facts = [row["supporting_facts"] for row in rows if row["type"] == "comparison"]
        pairs = [frozenset(title for title, _ in fact) for fact in facts]
        assert len(set(pairs)) == len(pairs)


def test_a_seed_is_one_world():
    world_3, world_4 = world(seed=3, people=150), world(seed=4, people=150)
    assert world(seed=3, people=150) == world_3
    first, second = world_3[Split.TRAIN], world_4[Split.TRAIN]
    assert {row["question"] for row in first}.isdisjoint(row["question"] for row in second)


def test_a_larger_world_has_more_questions():
    sizes = [len(world(people=people)[Split.TRAIN]) for people in (100, 200, 300)]
    # Four for each of about 80%: 320, 640, 960.
    assert [size // 4 for size in sizes] == pytest.approx([80, 160, 240], rel=0.15)


def test_the_compact_world_is_short_and_printable():
    rows = [row for rows in world(compact=True).values() for row in rows]
    texts = [text for row in rows for text in [row["question"], *paragraphs(row).values()]]
    assert max(map(len, texts)) < 64
    assert set("".join(texts)) <= set(PRINTABLE)


def test_a_world_that_is_too_small_is_refused():
    with pytest.raises(UserError, match=r"Of 10 people only \d belong .* Raise questions.people"):
        world(people=10)
