"""Hidden meanings of the letters on the board and of the action words.

A meaning permutes the paper's letters over their roles and the directions over the action words.
Meanings are numbered; number 0 is the paper's.
"""

from dataclasses import dataclass
from enum import StrEnum
from itertools import permutations

from steadyrl.base.errors import UserError
from steadyrl.environments.grid_game import Legend
from steadyrl.environments.grid_moves import Move


class MeaningSource(StrEnum):
    """Source of the meaning of symbols or of actions."""

    PAPER = "paper"
    """The paper's meaning: A is the player, "left" moves left."""

    FIXED = "fixed"
    """The meaning with index `meaning`, in all tasks."""

    PERMUTED = "permuted"
    """A random meaning for each task, except the one with index `meaning`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """Assignment of letters to roles and of directions to action words.

    Example:
        Meaning(legend=FROZEN_LAKE, shown="BACD", actions=tuple(Move))
    """

    legend: Legend

    shown: str
    """Letter shown instead of each letter of the legend."""

    actions: tuple[Move, ...]
    """Directions of the words left, down, right and up."""

    def letter(self, glyph: str) -> str:
        """Letter that the policy sees for `glyph`."""
        return self._show(self.legend.role(glyph).letter)

    def board(self, rows: tuple[str, ...]) -> tuple[str, ...]:
        """Rows as the policy sees them."""
        letters = {ord(role.glyph): self._show(role.letter) for role in self.legend.roles}
        return tuple([row.translate(letters) for row in rows])

    def fill(self, sentence: str) -> str:
        """Sentence of the legend with the letters as shown."""
        letters = [role.letter for role in self.legend.roles]
        return sentence.format(**{letter: self._show(letter) for letter in letters})

    def word(self, move: Move) -> Move:
        """Action word that leads in the direction `move`."""
        return Move(self.actions.index(move))

    def _show(self, letter: str) -> str:
        shown = self.shown[self.legend.letters.index(letter.upper())]
        return shown if letter.isupper() else shown.lower()


def all_meanings(legend: Legend, symbols: MeaningSource, actions: MeaningSource) -> list[Meaning]:
    """All meanings that differ from the paper only where the sources allow it."""
    plain, moves = legend.letters, tuple(Move)
    shown = [tuple(plain)] if symbols is MeaningSource.PAPER else list(permutations(plain))
    words = [moves] if actions is MeaningSource.PAPER else list(permutations(moves))
    return [
        Meaning(legend=legend, shown="".join(letters), actions=directions)
        for letters in shown
        for directions in words
    ]


def allowed_meanings(
    legend: Legend, symbols: MeaningSource, actions: MeaningSource, number: int
) -> list[Meaning]:
    """Meanings that tasks may have: one, or several from which each task draws.

    Raises:
        UserError: `number` does not exist.
    """
    everything = all_meanings(legend, symbols, actions)
    if number >= len(everything):
        raise UserError(
            f"With symbols={symbols.value!r} and actions={actions.value!r} the meanings are "
            f"numbered from 0 to {len(everything) - 1}, got meaning={number}. Choose one of them, "
            "or let symbols or actions be 'fixed' or 'permuted'."
        )
    numbered = everything[number]
    if MeaningSource.PERMUTED not in (symbols, actions):
        return [numbered]
    return [
        meaning
        for meaning in everything
        if meaning != numbered
        and (symbols is not MeaningSource.FIXED or meaning.shown == numbered.shown)
        and (actions is not MeaningSource.FIXED or meaning.actions == numbered.actions)
    ]
