"""Checkpoints at regular steps, and the reference policy of each stage."""

from typing import Any

from steadyrl.learners.protocol import Learner, SavesInBackground
from steadyrl.records.run_folder import RunFolder
from steadyrl.training.background_checkpoint import BackgroundCheckpoint
from steadyrl.training.checkpoint import checkpoint_name, drop_old_checkpoints, save_checkpoint
from steadyrl.training.journal import JournalSettings
from steadyrl.training.sampler import WaitingRollouts
from steadyrl.training.stage import RunPosition, Stage


class Checkpointer:
    """Saves the state of a run to its folder, and removes old checkpoints."""

    _pending: BackgroundCheckpoint | None = None
    """The one that is being written."""

    def __init__(self, folder: RunFolder, settings: JournalSettings) -> None:
        self._folder = folder
        self._settings = settings

    def is_due(self, stage: Stage, step: int) -> bool:
        """Whether a checkpoint is saved after `step` steps of `stage`."""
        return self._settings.keeps(step, stage.steps)

    def save(
        self,
        stage: Stage,
        position: RunPosition,
        learner: Learner,
        algorithm_state: Any,
        waiting: WaitingRollouts | None = None,
    ) -> None:
        """Saves a checkpoint, or begins to, if the learner saves in the background.

        Args:
            algorithm_state: None: the algorithm has none.
            waiting: Rollouts that no step has consumed; None: there are none.
        """
        self.complete()
        path = self._folder.checkpoints / checkpoint_name(stage.name, position.step)
        parts = {"algorithm_state": algorithm_state, "waiting": waiting}
        if isinstance(learner, SavesInBackground) and learner.saves_in_background:
            self._pending = BackgroundCheckpoint(path, learner, position, **parts)
        else:
            save_checkpoint(path, learner, position, **parts)
            drop_old_checkpoints(self._folder, self._settings.keep_checkpoints)

    def advance(self) -> None:
        """Completes the checkpoint that is being written, if all of it is."""
        if self._pending is not None and self._pending.is_written:
            self.complete()

    def complete(self) -> None:
        """Waits for the checkpoint that is being written, if there is one."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.complete()
            drop_old_checkpoints(self._folder, self._settings.keep_checkpoints)

    def load_reference(self, stage: Stage, learner: Learner, *, fresh: bool) -> None:
        """Loads the reference policy of `stage` into the learner, or removes it if not needed.

        Args:
            fresh: The stage begins, so that the present weights become the reference.
        """
        if not stage.needs_reference:
            learner.load_reference(None)
            return
        path = self._folder.references / stage.name
        if fresh:
            learner.save_reference(path)
        learner.load_reference(path)
