"""What is remembered of reflections that worked."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from steadyrl.base.settings import Settings


class NoMemory(Settings):
    """Reflections are made and used, and forgotten."""

    name: Literal["none"] = "none"


class SingleSlot(Settings):
    """The last reflection that worked, which the next one overwrites."""

    name: Literal["single_slot"] = "single_slot"

    workers: int = Field(1, ge=1)
    """Slots, which episodes use in turn. 1 is the paper's algorithm 2; its released code has 1024
    for grid games and 256 for HotpotQA, of which a step of 64 x 4 episodes touches 256."""


class Retrieval(Settings):
    """The reflections that worked on tasks most like the one at hand."""

    name: Literal["retrieval"] = "retrieval"

    capacity: int = Field(50, ge=1)
    """Reflections that are kept. The oldest makes room."""

    recalled: int = Field(3, ge=1)
    """Reflections that are shown, best first."""

    @model_validator(mode="after")
    def _as_many_are_kept(self) -> "Retrieval":
        if self.recalled > self.capacity:
            raise ValueError(
                f"recalled is {self.recalled}, but {self.capacity} reflections are kept. Lower "
                "recalled, or raise capacity."
            )
        return self


MemorySettings = Annotated[NoMemory | SingleSlot | Retrieval, Field(discriminator="name")]
