"""How often the process of an engine is started anew, and what is said about it."""

import warnings
from collections.abc import Sequence

from steadyrl.base.errors import UserError


class Restarts:
    """Counts the restarts of one process.

    Args:
        most: Maximum number between two syncs.
        remedy: What to do when that is not enough, as a sentence.
    """

    def __init__(self, most: int, remedy: str) -> None:
        self._most, self._remedy = most, remedy
        self._since_sync = 0
        self._reasons: list[str] = []

    def begin_sync(self) -> None:
        """Counts from 0 again, since new weights have been sent."""
        self._since_sync = 0

    def record(self, ended: UserError, consequence: str) -> None:
        """Records that the process is started anew because it has `ended`.

        Args:
            consequence: What becomes of its work, as a sentence.

        Raises:
            UserError: it was started anew as often as is allowed.
        """
        reason = str(ended).rstrip(".")
        if self._since_sync == self._most:
            raise UserError(
                f"{reason}. It was started anew {self._since_sync} times since the last sync, as "
                f"placement.restarts allows. {self._remedy}"
            ) from ended
        self._since_sync += 1
        self._reasons.append(f"{reason}. {consequence}")
        warnings.warn(self._reasons[-1], RuntimeWarning, stacklevel=3)

    def take(self) -> Sequence[str]:
        """A sentence about each restart since the last call."""
        reasons, self._reasons = self._reasons, []
        return reasons
