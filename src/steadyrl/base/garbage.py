"""Garbage collection beside a large heap."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def heap_left_alone() -> Iterator[None]:
    """Within the block, garbage collection ignores the objects that existed before it.

    Torch, Transformers and a model are half a million objects. A server creates so many others
    that each is looked through again and again, which takes a third of a second every time.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
