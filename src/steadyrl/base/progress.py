"""How far a run has come within a step, reported by the parts that take long.

    loop      begin("rollout", stage="rl", step=3, steps=200)
    engine    advance("answers", 37, 64, tokens=12_300, most_tokens=32_768)
    episodes  advance("episodes", 12, 64)

Nothing that is computed depends on a listener.
"""

from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Listens to how far the work has come. A call may come after every token: it must be cheap."""

    def begin(self, phase: str, *, stage: str = "", step: int = 0, steps: int = 0) -> None:
        """The run turns to `phase`, such as `rollout`.

        Args:
            step: The step that is being taken, from 1 on; 0 before the first one.
            steps: Steps of the stage. 0 where the phase belongs to no stage.
        """
        ...

    def advance(
        self, part: str, done: int, total: int, *, tokens: int = 0, most_tokens: int = 0
    ) -> None:
        """`done` of `total` items of the present phase are finished.

        Args:
            part: What is counted: `episodes`, `answers`, `rows`.
            tokens: Tokens that were sampled for all of these items so far.
            most_tokens: Tokens that they may take together.
        """
        ...


class NoProgress:
    """Nobody listens."""

    def begin(self, phase: str, *, stage: str = "", step: int = 0, steps: int = 0) -> None:
        """Does nothing."""

    def advance(
        self, part: str, done: int, total: int, *, tokens: int = 0, most_tokens: int = 0
    ) -> None:
        """Does nothing."""


NO_PROGRESS = NoProgress()
