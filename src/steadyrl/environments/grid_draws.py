"""Random draws for one place: the same in every process, with no generator state to keep."""

from collections.abc import Iterator
from itertools import count, islice

import numpy as np

_WORDS_AT_ONCE = 64


class Draws:
    """The endless sequence of draws that belongs to `place`.

    Example:
        Draws(seed, split_number, index).below(4)
    """

    def __init__(self, *place: int) -> None:
        self._words = _words(place)

    def below(self, count: int) -> int:
        """A whole number from 0 to `count` - 1, all equally likely."""
        return next(self._words) % count

    def between(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * ((next(self._words) >> 11) / 2**53)

    def chances(self, probability: float, number: int) -> list[bool]:
        """`number` independent draws that are true with `probability`."""
        words = islice(self._words, number)
        return [(word >> 11) / 2**53 < probability for word in words]

    def distinct(self, number: int, count: int) -> tuple[int, ...]:
        """`number` different whole numbers below `count`, in random order."""
        drawn: list[int] = []
        while len(drawn) < number:
            value = self.below(count)
            if value not in drawn:
                drawn.append(value)
        return tuple(drawn)


def _words(place: tuple[int, ...]) -> Iterator[int]:
    for block in count():
        seed = np.random.SeedSequence((*place, block))
        yield from seed.generate_state(_WORDS_AT_ONCE, np.uint64).tolist()
