"""Random draws that depend only on a key, identical in every process and without state."""

from collections.abc import Iterator
from itertools import count, islice

import numpy as np

_WORDS_AT_ONCE = 64


class Draws:
    """Endless sequence of random draws for the key `place`.

    Example:
        Draws(seed, split_number, index).below(4)
    """

    def __init__(self, *place: int) -> None:
        self._words = _words(place)

    def below(self, count: int) -> int:
        """Uniform integer in [0, `count`)."""
        return next(self._words) % count

    def between(self, low: float, high: float) -> float:
        """Uniform number in [low, high)."""
        return low + (high - low) * ((next(self._words) >> 11) / 2**53)

    def chances(self, probability: float, number: int) -> list[bool]:
        """`number` independent booleans, each true with `probability`."""
        words = islice(self._words, number)
        return [(word >> 11) / 2**53 < probability for word in words]

    def distinct(self, number: int, count: int) -> tuple[int, ...]:
        """`number` distinct integers in [0, `count`), in random order."""
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
