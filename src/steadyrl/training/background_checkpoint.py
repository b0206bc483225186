"""A checkpoint that the learner writes while it goes on.

    begin        weights and moments are copied; cursor, buffer and algorithm's state are written
    meanwhile    steps are taken; the folder has no name that a resume would find
    complete     all shards are written: checksums, place.json, and the name

Cursor and buffer are those of the moment at which the weights were copied, and all of them get the
name at once. A run that ends in between resumes from the checkpoint before.
"""

from pathlib import Path
from typing import Any

from steadyrl.learners.protocol import SavesInBackground
from steadyrl.records.run_folder import complete_draft, empty_draft
from steadyrl.training.checkpoint import write_place, write_rollouts
from steadyrl.training.sampler import WaitingRollouts
from steadyrl.training.stage import RunPosition


class BackgroundCheckpoint:
    """A checkpoint that is being written to `path`. Its arguments are those of `save_checkpoint`.

    Raises:
        NonFiniteError: a weight is not finite.
    """

    def __init__(
        self,
        path: Path,
        learner: SavesInBackground,
        position: RunPosition,
        *,
        algorithm_state: Any = None,
        waiting: WaitingRollouts | None = None,
    ) -> None:
        self._path = path
        self._learner = learner
        self._position = position
        self._policy_version = learner.policy_version
        self._draft = empty_draft(path)
        learner.begin_save(self._draft)
        write_rollouts(self._draft, algorithm_state, waiting)

    @property
    def is_written(self) -> bool:
        """Whether the learner has written all of it."""
        return self._learner.is_saved()

    def complete(self) -> None:
        """Waits until all is written, and gives the checkpoint its name."""

        def write(draft: Path) -> None:
            self._learner.finish_save()
            write_place(draft, self._position, self._policy_version)

        complete_draft(self._draft, self._path, write)
