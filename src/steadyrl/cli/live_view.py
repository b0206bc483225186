"""A run as it goes on, in the terminal."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from steadyrl.training.stage import Stage

SHOWN = (
    ("reward", "reward", "{:.3f}"),
    ("reward_after_reflection", "after reflection", "{:.3f}"),
    ("memory_writes", "remembered", "{:.0f}"),
    ("score", "score", "{:.3f}"),
    ("entropy", "entropy", "{:.3f}"),
    ("mismatch_kl_k3", "mismatch", "{:.1e}"),
    ("loss", "loss", "{:.3f}"),
)
"""(metric, label, format) of what stands beside the bar."""


class LiveView:
    """A progress bar for each stage, with the metrics that tell whether all is well."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("[bold]{task.description:<10}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[metrics]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=console,
            refresh_per_second=4,
        )
        self._tasks: dict[str, TaskID] = {}
        self._latest: dict[str, Any] = {}

    def __enter__(self) -> "LiveView":
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def on_step(self, stage: Stage, step: int, row: Mapping[str, Any]) -> None:
        """Shows what was measured in the step."""
        if stage.name not in self._tasks:
            self._latest = {}
            self._tasks[stage.name] = self._progress.add_task(
                stage.name, total=stage.steps, metrics=""
            )
        self._latest |= row
        labels = [
            f"{label} {form.format(self._latest[name])}"
            for name, label, form in SHOWN
            if name in self._latest and not (name == "loss" and "reward" in self._latest)
        ]
        self._progress.update(self._tasks[stage.name], completed=step, metrics="  ".join(labels))

    def on_note(self, stage: Stage, step: int, text: str) -> None:
        """Prints the note above the bars."""
        self._progress.console.print(_noted(stage, step, text), markup=False, soft_wrap=True)


class LineView:
    """The same as plain lines, for logs and terminals that cannot redraw."""

    def __init__(self, console: Console, every: int = 50) -> None:
        self._console = console
        self._every = every

    def on_step(self, stage: Stage, step: int, row: Mapping[str, Any]) -> None:
        """Prints a line every so many steps, at evaluations and at the end of a stage."""
        if step % self._every and step != stage.steps and "score" not in row:
            return
        labels = [f"{label} {form.format(row[name])}" for name, label, form in SHOWN if name in row]
        line = f"{stage.name} {step}/{stage.steps}  " + "  ".join(labels)
        self._console.print(line, markup=False, soft_wrap=True)

    def on_note(self, stage: Stage, step: int, text: str) -> None:
        """Prints the note."""
        self._console.print(_noted(stage, step, text), markup=False, soft_wrap=True)


def _noted(stage: Stage, step: int, text: str) -> str:
    return f"{stage.name} from step {step} on  {text}"


def view_for(console: Console) -> LiveView | LineView:
    """The view that fits the console."""
    return LiveView(console) if console.is_terminal else LineView(console)


def scores(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """The held-out scores of a run, first to last."""
    return [row["score"] for row in rows if "score" in row]
