"""Trackio: experiment tracking in local files or in a Hugging Face Space."""

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, Literal

from steadyrl.base.extras import require_extra
from steadyrl.training.stage import Stage
from steadyrl.training.trackers.protocol import Row, TrackedRun, Tracker, TrackerSettings, flat

SERVICE = "trackio"


class TrackioSettings(TrackerSettings):
    """Trackio, shown by `trackio show`. Needs `pip install 'steadyrl[trackio]'`."""

    name: Literal["trackio"] = "trackio"

    project: str = "steadyrl"
    """Project that the run belongs to."""

    run_name: str | None = None
    """Name of the run, which has to be its own within the project; None: that of the run folder."""

    space_id: str | None = None
    """Hugging Face Space that shows the project, as `user/space`; None: files of this machine, in
    TRACKIO_DIR."""

    def require(self) -> None:
        """Returns if trackio is installed."""
        require_extra("trackio", "trackio")

    def open(self, run: TrackedRun) -> Tracker:
        """The trackio run of `run`, which a resume continues."""
        import trackio

        with _quiet():
            opened = trackio.init(
                project=self.project,
                name=run.identity(SERVICE, lambda: self.run_name or run.name),
                space_id=self.space_id,
                config=dict(run.config),
                resume="allow",
                embed=False,
            )
        return TrackioTracker(opened, run)


class TrackioTracker:
    """Logs to a trackio run under `stage/metric`.

    The step of a row counts through all stages; `stage/step` is that of the stage. Steps that a
    resumed run takes again are logged again, with the same values.
    """

    def __init__(self, opened: Any, run: TrackedRun) -> None:
        self._opened = opened
        self._run = run

    @property
    def address(self) -> str | None:
        """The Space that shows the run; None where its files are on this machine."""
        return None if self._opened.url is None else str(self._opened.url)

    def log(self, stage: Stage, step: int, metrics: Row) -> None:
        """Logs the row."""
        values = {f"{stage.name}/step": step, **flat(metrics, stage.name)}
        self._opened.log(values, step=self._run.position(stage.name, step))

    def note(self, stage: Stage, step: int, text: str) -> None:
        """Logs the note as Markdown under `stage/notes`."""
        from trackio import Markdown

        position = self._run.position(stage.name, step)
        self._opened.log({f"{stage.name}/notes": Markdown(text)}, step=position)

    def close(self) -> None:
        """Waits until trackio has written all."""
        with _quiet():
            self._opened.finish()


@contextmanager
def _quiet() -> Iterator[None]:
    """Trackio prints where its files lie, across what a command draws.

    For calls during which the run only waits: nothing else can print then.
    """
    with redirect_stdout(io.StringIO()):
        yield
