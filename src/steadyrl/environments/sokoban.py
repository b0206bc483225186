"""Sokoban with hidden rules, as in appendix B.2 of the ERL paper (arXiv:2602.13949)."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from steadyrl.base.errors import UserError
from steadyrl.environments.grid_draws import Draws
from steadyrl.environments.grid_environment import (
    GridEnvironment,
    GridSettings,
    require_every_split,
    split_of_game,
)
from steadyrl.environments.protocol import Split
from steadyrl.environments.sokoban_board import SOKOBAN, SokobanBoard
from steadyrl.environments.sokoban_levels import all_levels, draw_level, read_levels


class SokobanSettings(GridSettings):
    """Size and difficulty of drawn levels, or a file of levels."""

    name: Literal["sokoban"] = "sokoban"

    min_size: int = Field(6, ge=3, le=12)
    """Minimum number of rows and columns, border walls included."""

    max_size: int = Field(8, ge=3, le=12)
    """Maximum number of rows and columns, border walls included."""

    max_path: int = Field(8, ge=1)
    """Maximum length of the shortest solution of drawn levels."""

    inner_walls: float = Field(0.0, ge=0, le=0.5)
    """Probability that a cell inside the border of a drawn level is a wall. The paper has none."""

    levels: Path | None = None
    """File of levels to use instead of drawn ones, with any size, walls and number of boxes.
    Whether they can be solved in `moves` is not checked."""

    @model_validator(mode="after")
    def _check(self) -> "SokobanSettings":
        self.check_range("min_size", "max_size")
        if self.levels is None:
            self.check_path(self.max_path)
        for name in ("min_size", "max_size", "max_path", "inner_walls"):
            value = getattr(self, name)
            if self.levels is not None and value != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name} is {value}, which only affects drawn levels, but levels are read "
                    f"from {self.levels}. Remove one of them."
                )
        return self

    def make(self) -> "Sokoban":
        """The environment."""
        return Sokoban(self)


class Sokoban(GridEnvironment):
    """Levels with one box inside border walls, or the levels of a file.

    The board decides the split of a level. The levels of a file start over after the last one.

    Raises:
        UserError: there are too few levels of some size for every split to have one, the file is
            invalid, or `settings.meaning` does not exist.
    """

    def __init__(self, settings: SokobanSettings) -> None:
        super().__init__(settings, name=settings.name, legend=SOKOBAN)
        self.settings = settings
        self._levels: dict[Split, list[SokobanBoard]] = {split: [] for split in Split}
        if settings.levels is None:
            for size in range(settings.min_size, settings.max_size + 1):
                require_every_split(
                    all_levels(size=size, max_path=settings.max_path),
                    f"Sokoban levels of size {size} with solutions of at most "
                    f"{settings.max_path} moves",
                    "Raise min_size or max_path.",
                )
        else:
            for level in read_levels(settings.levels):
                self._levels[split_of_game(level)].append(level)

    def game(self, split: Split, index: int, draws: Draws) -> SokobanBoard:
        """Level of the file, or first drawn level, that belongs to `split`.

        Raises:
            UserError: the file has no level in this split.
        """
        settings = self.settings
        if settings.levels is not None:
            return self._from_file(split, index)
        size = settings.min_size + draws.below(settings.max_size - settings.min_size + 1)
        while True:
            level = draw_level(
                draws,
                size=size,
                max_path=settings.max_path,
                inner_walls=settings.inner_walls,
            )
            if split_of_game(level) == split:
                return level

    def distinct_tasks(self, split: Split) -> int | None:
        """Number of levels of the file in `split`; None if meanings vary or levels are drawn."""
        if self.settings.levels is None or self.meaning_varies:
            return None
        return len(self._levels[split])

    def _from_file(self, split: Split, index: int) -> SokobanBoard:
        levels = self._levels[split]
        if not levels:
            raise UserError(
                f"No level of {self.settings.levels} is in the {split} split. Use a file with "
                "more levels: about a tenth each is used for validation and testing."
            )
        return levels[index % len(levels)]
