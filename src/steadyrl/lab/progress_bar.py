"""Progress bar of a study."""

from contextlib import AbstractContextManager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from steadyrl.base.wording import duration
from steadyrl.lab.running import Progress as RunsProgress


class ProgressBar(AbstractContextManager["ProgressBar"]):
    """Progress bar: finished runs, share of steps, time left."""

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
        )
        self._task = self._bar.add_task("starting", total=None, left="")

    def __enter__(self) -> "ProgressBar":
        self._bar.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._bar.stop()

    def show(self, progress: RunsProgress) -> None:
        """Shows the progress."""
        left = "" if progress.seconds_left is None else f"{duration(progress.seconds_left)} left"
        self._bar.update(
            self._task,
            description=f"{progress.finished} of {progress.runs} runs",
            completed=progress.steps if progress.all_steps else 1,
            total=progress.all_steps or 1,
            left=left,
        )
