"""Progress of another process, as messages before its replies."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from steadyrl.base.progress import NoProgress, Progress

REPORT_EVERY = 0.5
"""Minimum number of seconds between two reports of one part."""


@dataclass(frozen=True, slots=True)
class ProgressReport:
    """A call of `Progress.advance` in the other process."""

    part: str
    done: int
    total: int
    tokens: int
    most_tokens: int

    def repeat(self, progress: Progress) -> None:
        """Repeats the call in this process."""
        progress.advance(
            self.part, self.done, self.total, tokens=self.tokens, most_tokens=self.most_tokens
        )


class ProgressReporter(NoProgress):
    """Sends reports of each part: at most two per second, and one when it is complete.

    Only while the other process waits for an answer: it would not read others.

    Args:
        send: Sends a report to the other process.
    """

    def __init__(self, send: Callable[[ProgressReport], None]) -> None:
        self._send = send
        self._sent: dict[str, float] = {}
        self._is_heard = False

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Context in which the other process waits for an answer."""
        self._is_heard = True
        try:
            yield
        finally:
            self._is_heard = False

    def advance(
        self, part: str, done: int, total: int, *, tokens: int = 0, most_tokens: int = 0
    ) -> None:
        """Sends a report, unless one was sent shortly before."""
        now = time.monotonic()
        if not self._is_heard:
            return
        if done == total or now - self._sent.get(part, 0.0) > REPORT_EVERY:
            self._sent[part] = now
            self._send(ProgressReport(part, done, total, tokens, most_tokens))
