"""What the letters on the board and the action words mean; the policy is not told.

A meaning gives every role of the paper's letters another of the same letters, and every action word
a direction. All of them are numbered, and number 0 is the paper's.
"""

from dataclasses import dataclass
from enum import StrEnum
from itertools import permutations

from steadyrl.base.errors import UserError
from steadyrl.environments.grid_game import Legend
from steadyrl.environments.grid_moves import Move


class MeaningSource(StrEnum):
    """How the meaning of symbols, or of actions, is chosen."""

    PAPER = "paper"
    """As in the paper: A is the player, "left" moves left."""

    FIXED = "fixed"
    """That of number `meaning`, in every task."""

    PERMUTED = "permuted"
    """Each task draws its own; never the one with the number `meaning`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """One assignment of letters to roles and of directions to action words.

    Example:
        Meaning(legend=FROZEN_LAKE, shown="BACD", actions=tuple(Move))
    """

    legend: Legend

    shown: str
    """What is shown in the place of each of the legend's letters."""

    actions: tuple[Move, ...]
    """Where the words left, down, right and up lead."""

    def letter(self, glyph: str) -> str:
        """What a policy reads where `glyph` is."""
        return self._show(self.legend.role(glyph).letter)

    def board(self, rows: tuple[str, ...]) -> tuple[str, ...]:
        """The rows as a policy reads them."""
        letters = {ord(role.glyph): self._show(role.letter) for role in self.legend.roles}
        return tuple([row.translate(letters) for row in rows])

    def fill(self, sentence: str) -> str:
        """A sentence of the legend with the letters as they are shown."""
        letters = [role.letter for role in self.legend.roles]
        return sentence.format(**{letter: self._show(letter) for letter in letters})

    def word(self, move: Move) -> Move:
        """The action word that leads in the direction `move`."""
        return Move(self.actions.index(move))

    def _show(self, letter: str) -> str:
        shown = self.shown[self.legend.letters.index(letter.upper())]
        return shown if letter.isupper() else shown.lower()


def all_meanings(legend: Legend, symbols: MeaningSource, actions: MeaningSource) -> list[Meaning]:
    """Every meaning in which nothing that is to be as in the paper differs from it."""
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
    """The meanings that tasks may have: one, or many of which each task draws its own.

    Raises:
        UserError: there is no meaning with this number.
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
