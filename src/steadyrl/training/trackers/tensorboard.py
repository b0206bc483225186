"""TensorBoard events in the run folder."""

from typing import Literal

from torch.utils.tensorboard import SummaryWriter

from steadyrl.training.stage import Stage
from steadyrl.training.trackers.protocol import Row, TrackedRun, Tracker, TrackerSettings, flat


class TensorBoardSettings(TrackerSettings):
    """Events for `tensorboard --logdir`, in the run folder."""

    name: Literal["tensorboard"] = "tensorboard"

    def open(self, run: TrackedRun) -> Tracker:
        """The tracker of `run`: events from before a resume are written anew."""
        run.folder.remove_events()
        tracker = TensorBoardTracker(SummaryWriter(str(run.folder.tensorboard)))
        for row in run.recorded():
            tracker.log(*row)
        return tracker


class TensorBoardTracker:
    """Writes scalars under `stage/metric`, at the step of the stage."""

    def __init__(self, writer: SummaryWriter) -> None:
        self._writer = writer

    def log(self, stage: Stage, step: int, metrics: Row) -> None:
        """Adds a scalar for each number."""
        for tag, value in flat(metrics, stage.name).items():
            self._writer.add_scalar(tag, value, step)
        self._writer.flush()

    def note(self, stage: Stage, step: int, text: str) -> None:
        """Adds the note under the tag `stage/notes`."""
        self._writer.add_text(f"{stage.name}/notes", text, step)

    def close(self) -> None:
        """Closes the event file."""
        self._writer.close()
