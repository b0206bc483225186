"""Progress of a run within a step, reported by its slow parts.

    loop      begin("rollout", stage="rl", step=3, steps=200)
    engine    advance("answers", 37, 64, tokens=12_300, most_tokens=32_768)
    episodes  advance("episodes", 12, 64)

Listeners never affect the computation.
"""

from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """A progress listener. It may be called after every token, so its methods must be cheap."""

    def begin(self, phase: str, *, stage: str = "", step: int = 0, steps: int = 0) -> None:
        """Called when the run enters `phase`, for example `rollout`.

        Args:
            step: Current step, counted from 1; 0 before the first step.
            steps: Number of steps of the stage; 0 if the phase does not belong to a stage.
        """
        ...

    def advance(
        self, part: str, done: int, total: int, *, tokens: int = 0, most_tokens: int = 0
    ) -> None:
        """Called when `done` of `total` items of the current phase are finished.

        Args:
            part: Name of the items: `episodes`, `answers` or `rows`.
            tokens: Tokens sampled so far for all of these items.
            most_tokens: Maximum total number of tokens of these items.
        """
        ...


class NoProgress:
    """A progress listener that does nothing."""

    def begin(self, phase: str, *, stage: str = "", step: int = 0, steps: int = 0) -> None:
        """Does nothing."""

    def advance(
        self, part: str, done: int, total: int, *, tokens: int = 0, most_tokens: int = 0
    ) -> None:
        """Does nothing."""


NO_PROGRESS = NoProgress()
