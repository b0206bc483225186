"""Weights & Biases."""

from secrets import token_hex
from typing import Any, ClassVar, Literal

from steadyrl.base.extras import require_extra
from steadyrl.training.stage import Stage
from steadyrl.training.trackers.protocol import Row, TrackedRun, Tracker, TrackerSettings, flat

SERVICE = "wandb"


class WandbSettings(TrackerSettings):
    """Weights & Biases. Needs `pip install 'steadyrl[wandb]'`, and `wandb login` where online."""

    remedy: ClassVar[str] = "Run 'wandb login', or set the tracker's mode to 'offline'."

    name: Literal["wandb"] = "wandb"

    project: str = "steadyrl"
    """Project that the run belongs to."""

    entity: str | None = None
    """User or team that the project belongs to; None: the default of the account."""

    run_name: str | None = None
    """Name of the run; None: that of the run folder."""

    tags: tuple[str, ...] = ()
    """Tags of the run."""

    mode: Literal["online", "offline"] | None = None
    """offline: files in the run folder, for `wandb sync`. None: as WANDB_MODE says, else online."""

    def require(self) -> None:
        """Returns if wandb is installed."""
        require_extra("wandb", "wandb")

    def open(self, run: TrackedRun) -> Tracker:
        """The W&B run of `run`, which a resume continues under the same id."""
        import wandb

        opened = wandb.init(
            project=self.project,
            entity=self.entity,
            id=run.identity(SERVICE, lambda: token_hex(8)),
            resume="allow",
            name=self.run_name or run.name,
            tags=self.tags,
            config=dict(run.config),
            dir=str(run.folder.path),
            mode=self.mode,
            settings=wandb.Settings(silent=True, console="off"),
        )
        for stage in run.stages:
            opened.define_metric(f"{stage.name}/step", hidden=True)
            opened.define_metric(f"{stage.name}/*", step_metric=f"{stage.name}/step")
        return WandbTracker(opened, run)


class WandbTracker:
    """Logs to a W&B run under `stage/metric`, drawn over the steps of the stage.

    W&B counts rows by one number, which only grows. Rows that a run before a resume has sent are
    not sent again: a resumed run measures the same. Offline, where W&B cannot know them, all are.
    """

    def __init__(self, opened: Any, run: TrackedRun) -> None:
        self._opened = opened
        self._run = run
        self._first = opened.starting_step
        self._notes = [_line(note["stage"], note["step"], note["note"]) for note in run.notes]
        for row in run.recorded():
            self.log(*row)

    @property
    def address(self) -> str | None:
        """The page of the run; None offline."""
        return None if self._opened.offline else self._opened.url

    def log(self, stage: Stage, step: int, metrics: Row) -> None:
        """Logs the row, unless W&B has it."""
        position = self._run.position(stage.name, step)
        if position >= self._first:
            values = {f"{stage.name}/step": step, **flat(metrics, stage.name)}
            self._opened.log(values, step=position, commit=True)

    def note(self, stage: Stage, step: int, text: str) -> None:
        """Adds the note to the list `notes` of the summary."""
        self._notes.append(_line(stage.name, step, text))
        self._opened.summary["notes"] = self._notes

    def close(self) -> None:
        """Waits until W&B has taken all."""
        self._opened.finish()


def _line(stage: str, step: int, text: str) -> str:
    return f"{stage} {step}: {text}"
