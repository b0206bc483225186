"""Which rows are in which split."""

import random
from collections.abc import Sequence
from typing import Any

import pytest

from steadyrl.base.errors import UserError
from steadyrl.environments.dataset.examples import Example, InvalidRowError
from steadyrl.environments.dataset.loading import RowLocation, SplitAssigner, SplitTables
from steadyrl.environments.dataset.tables import Table
from steadyrl.environments.protocol import Split
from steadyrl.environments.splits import split_of
from tests.environments.dataset.test_examples import reader


def sorter(**changes: Any) -> SplitAssigner:
    values = {"reader": reader(), "check": lambda _: None, "held_out": 0.1, "skip": False}
    return SplitAssigner(**{**values, **changes})


def table(prompts: Sequence[Any], source: str = "s") -> Table:
    return Table(source=source, rows=[{"prompt": prompt, "answer": "1"} for prompt in prompts])


def given(**splits: Sequence[Any]) -> dict[Split, SplitTables]:
    return {
        Split(name): SplitTables(name=name, tables=[table(prompts, name)])
        for name, prompts in splits.items()
    }


def prompts_of(places: Sequence[RowLocation]) -> list[str]:
    return [str(place.table.rows[place.row]["prompt"]) for place in places]


QUESTIONS = [f"question {number}" for number in range(400)]


def test_texts_are_held_out_as_other_environments_hold_them_out() -> None:
    places = sorter().sort(given(train=QUESTIONS))
    for split in Split:
        expected = [question for question in QUESTIONS if split_of(question) is split]
        assert prompts_of(places[split]) == expected
        assert 0 < len(expected) < 400
    assert places[Split.TRAIN][0].id.startswith("train/")


def test_the_share_that_is_held_out_can_be_set_and_grows_around_the_same_rows() -> None:
    small, large = (sorter(held_out=share).sort(given(train=QUESTIONS)) for share in (0.05, 0.2))
    held = set(prompts_of(small[Split.TEST]))
    assert held < set(prompts_of(large[Split.TEST]))
    assert 10 <= len(held) <= 32  # 20 of 400, within three standard deviations
    assert 56 <= len(large[Split.TEST]) <= 104


def test_neither_the_order_of_rows_nor_other_rows_move_a_prompt() -> None:
    shuffled = random.Random(0).sample(QUESTIONS, 300)
    whole, part = (sorter().sort(given(train=rows)) for rows in (QUESTIONS, shuffled))
    for split in Split:
        assert set(prompts_of(part[split])) <= set(prompts_of(whole[split]))


def test_no_prompt_is_in_two_splits() -> None:
    alike = ["What  IS\tthis?", "what is this?", "What is this? "]
    sorted_rows = sorter()
    places = sorted_rows.sort(given(train=[*alike, *QUESTIONS[:50]], test=["WHAT is this?", "x"]))
    assert prompts_of(places[Split.TEST]) == ["WHAT is this?", "x"]
    seen = {" ".join(p.casefold().split()) for p in prompts_of(places[Split.TRAIN])}
    assert "what is this?" not in seen
    assert sorted_rows.notes == (
        "3 rows of the dataset were dropped because their prompts are also in a held-out split.",
    )


def test_repeated_prompts_stay_together_where_they_are_cut() -> None:
    places = sorter().sort(given(train=[*QUESTIONS, *[f" {q.upper()}" for q in QUESTIONS]]))
    for split in Split:
        found = [prompt.strip().casefold() for prompt in prompts_of(places[split])]
        assert sorted(found) == sorted(2 * list(dict.fromkeys(found)))


def test_only_splits_without_rows_of_their_own_are_cut() -> None:
    places = sorter().sort(given(train=QUESTIONS, test=["x"]))
    assert prompts_of(places[Split.TEST]) == ["x"]
    assert prompts_of(places[Split.VALIDATION]) == [
        question for question in QUESTIONS if split_of(question) is Split.VALIDATION
    ]
    everything = sorter().sort(given(train=QUESTIONS, test=["x"], validation=["y"]))
    assert prompts_of(everything[Split.TRAIN]) == QUESTIONS


@pytest.mark.parametrize("count", [3, 4, 7])
def test_a_small_file_has_every_split_and_the_same_at_each_reading(count: int) -> None:
    first = sorter().sort(given(train=QUESTIONS[:count]))
    assert sum(len(places) for places in first.values()) == count
    assert all(first.values())
    again = sorter().sort(given(train=QUESTIONS[:count][::-1]))
    assert {s: set(prompts_of(p)) for s, p in again.items()} == {
        s: set(prompts_of(p)) for s, p in first.items()
    }


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(UserError, match=r"has 2 distinct training prompts, too few for"):
        sorter().sort(given(train=["a", "b", "A"]))


def test_odd_rows_are_refused_with_their_place_or_left_out_and_counted() -> None:
    rows = given(train=["a", None, "b", "", "c"])
    with pytest.raises(
        UserError,
        match=r"^row 2 of train: the column 'prompt' is missing or has no value\. Correct the row, "
        r"or set environment\.invalid_rows to 'skip'",
    ):
        sorter().sort(rows)
    skipping = sorter(skip=True)
    assert sum(map(len, skipping.sort(rows).values())) == 3
    assert skipping.notes == (
        "2 of 5 rows of the dataset were dropped. The first: row 2 of train: the column 'prompt' "
        "is missing or has no value.",
    )


def test_what_a_reward_cannot_judge_is_an_odd_row() -> None:
    def check(example: Example) -> None:
        if example.text == "b":
            raise InvalidRowError("the answer is malformed")

    with pytest.raises(UserError, match=r"^row 2 of train: the answer is malformed\. Correct"):
        sorter(check=check).sort(given(train=["a", "b", "c", "d"]))


@pytest.mark.parametrize(
    ("column", "remedy"), [("promt", r"Did you mean 'promt'\?"), ("x", "It has: x, answer")]
)
def test_a_missing_column_is_named_with_those_that_there_are(column: str, remedy: str) -> None:
    rows = Table(source="a.csv", rows=[{column: "q", "answer": "1"}])
    with pytest.raises(UserError, match=rf"a\.csv has no column 'prompt'\. {remedy}"):
        sorter().sort({Split.TRAIN: SplitTables(name="train", tables=[rows])})


def test_ids_number_the_rows_of_a_split_over_all_its_files() -> None:
    tables = [table(QUESTIONS[:2]), table(QUESTIONS[2:5])]
    places = sorter().sort({Split.TRAIN: SplitTables(name="fit", tables=tables)})
    ids = {place.id for found in places.values() for place in found}
    assert ids == {f"fit/{number}" for number in range(1, 6)}
