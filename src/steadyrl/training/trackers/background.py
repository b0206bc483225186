"""A tracker that neither holds up the run nor ends it, whatever becomes of its service."""

import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue

from steadyrl.base.errors import cause
from steadyrl.training.stage import Stage
from steadyrl.training.trackers.protocol import Row, Tracker

LONGEST_CLOSE = 60.0
"""Seconds that a run waits at its end for a tracker to take what is left."""


class BackgroundTracker:
    """Calls another tracker from a thread of its own.

    Args:
        name: Of the tracker, for messages.
        longest_close: Seconds that `close` waits.
    """

    def __init__(
        self, tracker: Tracker, name: str, *, longest_close: float = LONGEST_CLOSE
    ) -> None:
        self._tracker = tracker
        self._name = name
        self._longest_close = longest_close
        self._failures: SimpleQueue[str] = SimpleQueue()
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def log(self, stage: Stage, step: int, metrics: Row) -> None:
        """Hands the row on, and returns at once."""
        self._calls.put(partial(self._tracker.log, stage, step, dict(metrics)))

    def note(self, stage: Stage, step: int, text: str) -> None:
        """Hands the note on, and returns at once."""
        self._calls.put(partial(self._tracker.note, stage, step, text))

    def close(self) -> None:
        """Waits until the tracker has taken all and is closed, for a limited time."""
        self._calls.put(self._tracker.close)
        self._calls.put(None)
        self._thread.join(self._longest_close)
        if self._thread.is_alive():
            waited = f"it has not taken everything {self._longest_close:.0f} s after the last step"
            self._failures.put(self._sentence(waited))

    @property
    def failure_opening(self) -> str:
        """Start of all sentences about failures of this tracker."""
        return f"The tracker {self._name!r} fails"

    def take_failures(self) -> list[str]:
        """Failures since the last call, in sentences."""
        return [self._failures.get() for _ in range(self._failures.qsize())]

    def _work(self) -> None:
        for call in iter(self._calls.get, None):
            try:
                call()
            except Exception as error:
                self._failures.put(self._sentence(cause(error)))

    def _sentence(self, reason: str) -> str:
        return (
            f"{self.failure_opening}, and may lack metrics and notes, which the run folder has: "
            f"{reason}."
        )
