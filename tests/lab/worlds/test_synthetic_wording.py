import re

from steadyrl.lab.worlds.synthetic_wording import (
    COMPACT,
    FIRST_NAMES,
    JOBS,
    PLAIN,
    TOWNS,
    first_name,
    second_name,
)


def test_first_names_are_all_different_and_of_four_letters():
    names = {first_name(number) for number in range(FIRST_NAMES)}
    assert len(names) == FIRST_NAMES == (12 * 5) ** 2
    assert all(re.fullmatch("[A-Z][a-z]{3}", name) for name in names)


def test_surnames_come_from_any_number():
    surnames = {second_name(number) for number in range(12 * FIRST_NAMES)}
    assert len(surnames) == 12 * FIRST_NAMES
    assert second_name(12 * FIRST_NAMES) == second_name(0)
    assert re.fullmatch("[A-Z][a-z]{4}", second_name(2**32 - 1))


def test_no_name_is_a_word_that_is_used_otherwise():
    texts = [*TOWNS, *JOBS]
    for wording in (PLAIN, COMPACT):
        for part in (wording.sentences, wording.bridges, wording.comparisons):
            texts += [re.sub(r"\{\w+\}", "", text) for text in part.values()]
    words = set(re.findall(r"\w+", " ".join(texts).lower()))
    assert words.isdisjoint({first_name(number).lower() for number in range(FIRST_NAMES)})
