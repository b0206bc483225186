"""Garbage collection beside a large heap."""

import gc
import weakref

from steadyrl.base.garbage import heap_left_alone


class Node:
    """Refers to itself, so that only garbage collection frees it."""

    def __init__(self) -> None:
        self.itself = self


def test_what_existed_before_is_collected_after_the_block() -> None:
    old = weakref.ref(Node())
    with heap_left_alone():
        new = weakref.ref(Node())
        gc.collect()
        assert new() is None
        assert old() is not None

    gc.collect()
    assert old() is None
    assert gc.get_freeze_count() == 0


def test_a_block_within_another_leaves_the_heap_to_it() -> None:
    with heap_left_alone():
        frozen = gc.get_freeze_count()
        with heap_left_alone():
            pass
        assert 0 < gc.get_freeze_count() <= frozen  # fewer once some of them are freed
