"""Checkpoints where they are due, and the reference policy of each stage."""

from steadyrl.algorithms.protocol import SupportsState
from steadyrl.learners.protocol import Learner
from steadyrl.records.run_folder import RunFolder
from steadyrl.training.checkpoint import checkpoint_name, drop_old_checkpoints, save_checkpoint
from steadyrl.training.journal import JournalSettings
from steadyrl.training.stage import RunPosition, Stage


class Checkpointer:
    """Saves the state of a run into its folder, and drops what is no longer needed."""

    def __init__(self, folder: RunFolder, settings: JournalSettings) -> None:
        self._folder = folder
        self._settings = settings

    def save(self, stage: Stage, position: RunPosition, learner: Learner) -> None:
        """Saves learner and algorithm, if a checkpoint is due after this step."""
        if not self._settings.keeps(position.step, stage.steps):
            return
        path = self._folder.checkpoints / checkpoint_name(stage.name, position.step)
        algorithm = stage.algorithm
        state = algorithm.state() if isinstance(algorithm, SupportsState) else None
        save_checkpoint(path, learner, position, algorithm_state=state)
        drop_old_checkpoints(self._folder, self._settings.keep_checkpoints)

    def load_reference(self, stage: Stage, learner: Learner, *, fresh: bool) -> None:
        """Gives the learner the reference policy of `stage`, or drops it if that needs none.

        Args:
            fresh: The stage begins, so that the present weights are the reference.
        """
        if not stage.needs_reference:
            learner.load_reference(None)
            return
        path = self._folder.references / stage.name
        if fresh:
            learner.save_reference(path)
        learner.load_reference(path)
