"""FrozenLake with hidden rules, as in appendix B.1 of the ERL paper (arXiv:2602.13949)."""

from typing import Literal

from pydantic import Field, model_validator

from steadyrl.environments.frozen_lake_board import (
    FROZEN_LAKE,
    SLIPPERY_LAKE,
    LakeBoard,
    all_lakes,
    draw_lake,
)
from steadyrl.environments.grid_draws import Draws
from steadyrl.environments.grid_environment import (
    GridEnvironment,
    GridSettings,
    require_every_split,
    split_of_game,
)
from steadyrl.environments.protocol import Split


class FrozenLakeSettings(GridSettings):
    """Size and difficulty of the lakes."""

    name: Literal["frozen_lake"] = "frozen_lake"

    min_size: int = Field(2, ge=2, le=9)
    """Minimum number of rows and columns."""

    max_size: int = Field(9, ge=2, le=9)
    """Maximum number of rows and columns."""

    min_frozen: float = Field(0.6, ge=0.1, le=0.9)
    """Minimum of the probability that a cell is frozen, which is drawn for each lake."""

    max_frozen: float = Field(0.85, ge=0.1, le=0.9)
    """Maximum of the probability that a cell is frozen."""

    max_path: int = Field(6, ge=1)
    """Maximum length of the shortest path to the goal."""

    slippery: bool = False
    """Whether two of three actions slip to one side. Slips are a property of the task: all attempts
    at it slip alike."""

    @model_validator(mode="after")
    def _check(self) -> "FrozenLakeSettings":
        self.check_range("min_size", "max_size")
        self.check_range("min_frozen", "max_frozen")
        self.check_path(self.max_path)
        return self

    def make(self) -> "FrozenLake":
        """The environment."""
        return FrozenLake(self)


class FrozenLake(GridEnvironment):
    """Lakes with random size, start, goal and holes.

    Raises:
        UserError: there are too few lakes of some size for every split to have one, or
            `settings.meaning` does not exist.
    """

    def __init__(self, settings: FrozenLakeSettings) -> None:
        legend = SLIPPERY_LAKE if settings.slippery else FROZEN_LAKE
        super().__init__(settings, name=settings.name, legend=legend, slippery=settings.slippery)
        self.settings = settings
        for size in range(settings.min_size, settings.max_size + 1):
            require_every_split(
                all_lakes(size=size, max_path=settings.max_path),
                f"lakes of size {size} with ways of at most {settings.max_path} moves",
                "Raise min_size or max_path.",
            )

    def game(self, split: Split, index: int, draws: Draws) -> LakeBoard:
        """First lake of the drawn size that belongs to `split`."""
        settings = self.settings
        size = settings.min_size + draws.below(settings.max_size - settings.min_size + 1)
        frozen = draws.between(settings.min_frozen, settings.max_frozen)
        while True:
            lake = draw_lake(draws, size=size, frozen=frozen, max_path=settings.max_path)
            if split_of_game(lake) == split:
                return lake
