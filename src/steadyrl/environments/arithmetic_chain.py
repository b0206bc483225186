"""Chains of additions and subtractions, and the finite set that they are drawn from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

Chain = tuple[int, ...]
"""Signed operands: 3+14-2+9 is (3, 14, -2, 9)."""


def chain_text(chain: Chain) -> str:
    """The chain as text, without the equals sign: "3+14-2+9"."""
    return str(chain[0]) + "".join([f"{operand:+d}" for operand in chain[1:]])


def partial_results(chain: Chain) -> tuple[int, ...]:
    """Value after each step: (17, 15, 24) for 3+14-2+9."""
    return tuple(accumulate(chain))[1:]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainWorld:
    """Chains of `operands` numbers from 1 to `max_operand` whose values stay in [0, `max_result`].

    Example:
        ChainWorld(operands=4, max_operand=9, max_result=20)
    """

    operands: int
    max_operand: int
    max_result: int

    def draw(self, words: Sequence[int]) -> Chain:
        """Chain from one random word per operand; each step is uniform over allowed operands."""
        value = 1 + words[0] % min(self.max_operand, self.max_result)
        chain = [value]
        for word in words[1:]:
            operand = self._allowed(value, word)
            value += operand
            chain.append(operand)
        return tuple(chain)

    def chains(self, start: Chain = ()) -> Iterator[Chain]:
        """All chains that begin with `start`."""
        if len(start) == self.operands:
            yield start
            return
        if start:
            operands = [
                self._allowed(sum(start), word) for word in range(self._choices(sum(start)))
            ]
        else:
            operands = list(range(1, min(self.max_operand, self.max_result) + 1))
        for operand in operands:
            yield from self.chains((*start, operand))

    def _choices(self, value: int) -> int:
        return min(self.max_operand, self.max_result - value) + min(self.max_operand, value)

    def _allowed(self, value: int, word: int) -> int:
        """Operand number `word`, modulo their count, among those allowed after `value`."""
        additions = min(self.max_operand, self.max_result - value)
        choice = word % self._choices(value)
        return choice + 1 if choice < additions else additions - choice - 1
