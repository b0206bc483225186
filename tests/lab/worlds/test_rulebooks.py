"""What drills know of rulebooks, and do not."""

import numpy as np

from steadyrl.lab.worlds.rulebooks import completed, partly_known


def test_a_memory_completes_a_rulebook() -> None:
    assert completed("@A G? HC <? vd", "@B GX H? <l v?") == "@A GX HC <l vd"
    assert completed("@A G?", "") == "@A G?"


def test_pairs_are_hidden_as_often_as_wanted_and_the_others_stay() -> None:
    generator = np.random.default_rng(0)
    books = [partly_known("<u vl", 0.25, generator) for _ in range(4000)]
    assert set(books) == {"<u vl", "<? vl", "<u v?", "<? v?"}
    # 9 in 16 know both pairs: 2250, with a standard deviation of 31.
    assert abs(books.count("<u vl") - 2250) < 125
    assert partly_known("<u vl", 0.0, generator) == "<u vl"
