"""Common settings and tasks of the grid games, whose rules are hidden from the policy."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from pydantic import Field

from steadyrl.base.errors import UserError
from steadyrl.environments.grid_attempt import Puzzle, Rendering
from steadyrl.environments.grid_compact import CompactRendering
from steadyrl.environments.grid_draws import Draws
from steadyrl.environments.grid_game import Game, Legend
from steadyrl.environments.grid_meaning import MeaningSource, allowed_meanings
from steadyrl.environments.grid_paper import PaperRendering
from steadyrl.environments.grid_search import shortest_solution
from steadyrl.environments.protocol import Episode, Split, Task
from steadyrl.environments.settings import EnvironmentSettings
from steadyrl.environments.splits import split_of

_SEED = 20_260_213
_SPLIT_NUMBERS = {split: place for place, split in enumerate(Split)}
_FOR_GAME, _FOR_MEANING, _FOR_SLIPS = range(3)
_RENDERINGS: dict[str, Rendering] = {"paper": PaperRendering(), "compact": CompactRendering()}


class GridSettings(EnvironmentSettings):
    """Text form of a grid game, and meaning of its symbols and actions."""

    rendering: Literal["paper", "compact"] = "paper"
    """paper: one action per turn, with the prompts of the paper. compact: one plan per episode, in
    a few characters."""

    symbols: MeaningSource = MeaningSource.PAPER
    """Source of the meaning of symbols."""

    actions: MeaningSource = MeaningSource.PAPER
    """Source of the meaning of action words."""

    meaning: int = Field(0, ge=0)
    """Index of the fixed meaning, or of the one excluded from permuted tasks. 0 is the meaning of
    the paper."""

    show_rulebook: bool = False
    """Start the prompt with the meaning of symbols and actions."""

    moves: int = Field(8, ge=1)
    """Maximum number of actions per episode."""

    @property
    def max_turns(self) -> int:
        """One turn per action, or one for a whole plan."""
        return self.moves if self.rendering == "paper" else 1

    def check_range(self, low: str, high: str) -> None:
        """Checks that the setting `low` does not exceed the setting `high`.

        Raises:
            ValueError: it does.
        """
        smallest, largest = getattr(self, low), getattr(self, high)
        if smallest > largest:
            raise ValueError(
                f"{low} is {smallest}, more than {high}, which is {largest}. Raise {high} or lower "
                f"{low}."
            )

    def check_path(self, max_path: int) -> None:
        """Checks that a shortest solution of `max_path` moves fits into an episode.

        Raises:
            ValueError: it does not.
        """
        if max_path > self.moves:
            raise ValueError(
                f"max_path is {max_path}, but an episode has {self.moves} moves: some tasks could "
                "not be solved. Raise moves or lower max_path."
            )


class GridEnvironment(ABC):
    """Reward 1 for a won game, else 0. The rules are not in the prompt; the feedback reveals them.

    Raises:
        UserError: `settings.meaning` does not exist.
    """

    def __init__(
        self, settings: GridSettings, *, name: str, legend: Legend, slippery: bool = False
    ) -> None:
        self._name = name
        self._moves = settings.moves
        self._slippery = slippery
        self._show_rulebook = settings.show_rulebook
        self._rendering = _RENDERINGS[settings.rendering]
        self._meanings = allowed_meanings(
            legend, settings.symbols, settings.actions, settings.meaning
        )

    @property
    def meaning_varies(self) -> bool:
        """Whether the same board may appear with several meanings."""
        return len(self._meanings) > 1

    @abstractmethod
    def game(self, split: Split, index: int, draws: Draws) -> Game:
        """Initial position of task number `index`. `draws` are specific to this task."""

    def task(self, split: Split, index: int) -> Task:
        """Task number `index` of `split`. Boards may repeat within a split, never across splits."""
        place = _SEED, _SPLIT_NUMBERS[split], index
        choice = Draws(*place, _FOR_MEANING).below(len(self._meanings))
        slips = Draws(*place, _FOR_SLIPS)
        puzzle = Puzzle(
            game=self.game(split, index, Draws(*place, _FOR_GAME)),
            meaning=self._meanings[choice],
            moves=self._moves,
            slips=tuple([slips.below(3) - 1 for _ in range(self._moves * self._slippery)]),
        )
        rulebook = self._rendering.rulebook(puzzle) if self._show_rulebook else None
        prompt = self._rendering.prompt(puzzle, rulebook)
        return Task(id=f"{self._name}/{split}/{index}", prompt=prompt, payload=puzzle)

    def start(self, task: Task) -> Episode:
        """Starts an attempt at `task`."""
        return self._rendering.start(task.payload)

    def rulebook(self, task: Task) -> str:
        """Meaning of the symbols and actions of `task`."""
        return self._rendering.rulebook(task.payload)

    def guide(self, task: Task, rulebook: str) -> Task:
        """`task` with `rulebook`, correct or not, instead of the instructions."""
        return replace(task, prompt=self._rendering.prompt(task.payload, rulebook))

    def solution(self, task: Task) -> tuple[str, ...]:
        """Shortest sequence of replies that wins `task` if nothing slips.

        Raises:
            UserError: the task cannot be won within the moves of an episode.
        """
        moves = shortest_solution(task.payload.game, limit=self._moves)
        if moves is None:
            raise UserError(
                f"{task.id} cannot be won in {self._moves} moves. Raise moves, or leave it out."
            )
        return self._rendering.replies(task.payload, moves)


def require_every_split(games: Iterable[Game], worlds: str, remedy: str) -> None:
    """Checks that every split has at least one of `games`; stops iterating when it does.

    Raises:
        UserError: a split has none of them.
    """
    missing = set(Split)
    for game in games:
        missing.discard(split_of_game(game))
        if not missing:
            return
    raise UserError(
        f"There are too few {worlds}: none is left for {', '.join(sorted(missing))}. {remedy}"
    )


def split_of_game(game: Game) -> Split:
    """The split of a board, independent of the meaning of its letters."""
    return split_of("\n".join(game.rows))
