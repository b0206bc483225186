"""Live view of a run: redrawn in a terminal, line by line in a log."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

from rich.console import Console, ConsoleOptions
from rich.live import Live
from rich.text import Text

from steadyrl.cli.run_status import RunStatus, StageStatus
from steadyrl.records.intervals import recorded_score
from steadyrl.training.stage import Stage

BAR_WIDTH = 24
HEARTBEAT = 10.0
"""Maximum seconds without a line in a log while a phase runs."""


class View(ABC):
    """A tracker that shows a run, and hears of its progress."""

    def __init__(self, console: Console, status: RunStatus | None = None) -> None:
        self._console = console
        self._status = status or RunStatus()

    def begin(self, phase: str, *, stage: str = "", step: int = 0, steps: int = 0) -> None:
        """The run turns to `phase`."""
        self._status.begin(phase, stage, step, steps)

    def advance(
        self, part: str, done: int, total: int, *, tokens: int = 0, most_tokens: int = 0
    ) -> None:
        """Updates the progress of the current phase."""
        self._status.advance(part, done, total, tokens, most_tokens)

    def log(self, stage: Stage, step: int, metrics: Mapping[str, Any]) -> None:
        """Takes in what was measured in the step."""
        self._status.take_step(stage.name, step, stage.steps, metrics)

    def note(self, stage: Stage, step: int, text: str) -> None:
        """Prints the note."""
        line = f"note ({stage.name} step {step}): {text}"
        self._console.print(line, markup=False, soft_wrap=True)

    def __enter__(self) -> "View":
        self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @abstractmethod
    def _start(self) -> None: ...

    @abstractmethod
    def close(self) -> None:
        """Ends the view, whose block may still go on."""


class LiveView(View):
    """A bar for each stage, the latest metrics, and what the run is at."""

    def __init__(self, console: Console, status: RunStatus | None = None) -> None:
        super().__init__(console, status)
        self._live = Live(self, console=console, refresh_per_second=4)
        self._ended = False

    def _start(self) -> None:
        self._live.start()

    def close(self) -> None:
        """Draws the last state for good."""
        self._ended = True
        self._live.stop()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        status = self._status
        for stage in list(status.stages.values()):
            yield self._stage_line(stage, options)
        metrics = status.step_text(status.metrics)
        lines = [metrics] if metrics else []
        if status.phase is not None and not self._ended:
            lines.append(status.phase_text())
        for line in lines:
            yield Text(f"  {line}", no_wrap=True, overflow="ellipsis")

    def _stage_line(self, stage: StageStatus, options: ConsoleOptions) -> Text:
        rest = f"{stage.done}/{stage.steps}  {self._status.stage_text(stage)}"
        room = options.max_width - len(f"{stage.name:<10}  {rest}") - 1
        width = max(0, min(BAR_WIDTH, room))
        full = round(width * stage.done / max(1, stage.steps))
        done, open_ = ("#", "-") if options.ascii_only else ("\u2501", "\u2500")
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"{stage.name:<10} ", style="bold")
        line.append(done * full, style="green")
        line.append(open_ * (width - full), style="dim")
        return line.append(f" {rest}")


class LineView(View):
    """Plain lines, for logs and terminals that cannot redraw.

    One for each step of reinforcement and each evaluation; of a cold start, whose steps are short,
    one for every `every` steps. In between, a heartbeat says what takes so long.
    """

    def __init__(
        self, console: Console, status: RunStatus | None = None, *, every: int = 50
    ) -> None:
        super().__init__(console, status)
        self._every = every
        self._printed = threading.Event()
        self._closed = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)

    def _start(self) -> None:
        self._heart.start()

    def close(self) -> None:
        """Ends the heartbeat."""
        self._closed.set()
        self._printed.set()
        self._heart.join(timeout=5.0)

    def begin(self, phase: str, *, stage: str = "", step: int = 0, steps: int = 0) -> None:
        """Prints that the first evaluation begins; later on the steps speak for themselves."""
        super().begin(phase, stage=stage, step=step, steps=steps)
        if stage and step == 0:
            self._print(f"{stage} 0/{steps}  {phase}")

    def log(self, stage: Stage, step: int, metrics: Mapping[str, Any]) -> None:
        """Prints the step's line, where it has one."""
        super().log(stage, step, metrics)
        short = not stage.algorithm.samples_from_engine
        if short and step % self._every and step != stage.steps and "score" not in metrics:
            return
        status = self._status
        parts = [f"{stage.name} {step}/{stage.steps}", status.step_text(metrics)]
        if seconds := metrics.get("seconds", 0.0) + metrics.get("evaluation_seconds", 0.0):
            parts.append(f"{seconds:.1f} s")
        if step and status.stage is not None:
            parts.append(status.stage_text(status.stage))
        self._print("  ".join(part for part in parts if part))

    def note(self, stage: Stage, step: int, text: str) -> None:
        """Prints the note."""
        super().note(stage, step, text)
        self._printed.set()

    def heartbeat(self) -> str:
        """The current phase of the run, or its stage while phases are shorter than a heartbeat."""
        status = self._status
        stage = status.stage
        if stage is None:
            return status.phase_text()
        if stage.done > stage.first and status.phase_elapsed() < HEARTBEAT:
            return f"{stage.name} {stage.done}/{stage.steps}  {status.stage_text(stage)}"
        return f"{stage.name} {status.step}/{stage.steps}  {status.phase_text()}"

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, soft_wrap=True)
        self._printed.set()

    def _beat(self) -> None:
        while not self._closed.is_set():
            if self._printed.wait(HEARTBEAT):
                self._printed.clear()
            elif self._status.phase is not None:
                with suppress(BrokenPipeError):  # the next step's line meets it too
                    self._console.print(self.heartbeat(), markup=False, soft_wrap=True)


def view_for(console: Console) -> LiveView | LineView:
    """The view that fits the console."""
    redraws = console.is_terminal and not console.is_dumb_terminal
    return LiveView(console) if redraws else LineView(console)


def closing_line(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The held-out scores before and after a run, each with its interval; None without any."""
    measured = [row for row in rows if "score" in row]
    if not measured:
        return None
    first, last = (recorded_score(row) for row in (measured[0], measured[-1]))
    return f"held-out score: {first} before, {last} after"
