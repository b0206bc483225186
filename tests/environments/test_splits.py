from collections import Counter
from math import sqrt

import pytest

from steadyrl.environments.protocol import Split
from steadyrl.environments.splits import split_of


def test_shares_are_80_10_10():
    counts = Counter(split_of(f"problem {number}") for number in range(10_000))
    for split, share in ((Split.TRAIN, 0.8), (Split.VALIDATION, 0.1), (Split.TEST, 0.1)):
        assert abs(counts[split] / 10_000 - share) < 4 * sqrt(share * (1 - share) / 10_000)


@pytest.mark.parametrize("text", ["", "caf\u00e9", "\ud800"])
def test_any_text_has_a_split(text: str):
    assert split_of(text) == split_of(text)
    assert split_of(text) in Split


def test_splits_are_the_same_in_every_process():
    # Pinned: a change moves training problems into the test split.
    assert [split_of(text) for text in ("1+1", "22+1", "17+1")] == list(Split)


def test_other_shares_are_held_out_around_the_same_texts():
    texts = [f"problem {number}" for number in range(2_000)]
    held = [{text for text in texts if split_of(text, h) is Split.TEST} for h in (0.02, 0.1, 0.35)]
    assert held[0] < held[1] < held[2]
    assert len(held[2]) / 2_000 == pytest.approx(0.35, abs=4 * sqrt(0.35 * 0.65 / 2_000))
    assert {split_of(text, 0.5 - 1e-6) for text in texts} == {Split.VALIDATION, Split.TEST}
