"""Protocol and settings of trackers, which receive the metrics and notes of a run."""

import json
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from steadyrl.base.variants import Variant
from steadyrl.records.run_folder import RunFolder, write_atomically
from steadyrl.training.stage import Stage

Row = Mapping[str, Any]


@runtime_checkable
class Tracker(Protocol):
    """Receives metrics and notes after each step."""

    def log(self, stage: Stage, step: int, metrics: Row) -> None:
        """Takes what was measured in the last of `step` steps of `stage`; 0: before the first.

        Args:
            metrics: Numbers, and lists of numbers. Some may be infinite or NaN.
        """
        ...

    def note(self, stage: Stage, step: int, text: str) -> None:
        """Takes a sentence that holds from `step` of `stage` on."""
        ...

    def close(self) -> None:
        """Sends what is left, and ends."""
        ...


@runtime_checkable
class HasAddress(Protocol):
    """A tracker whose service shows the run somewhere."""

    @property
    def address(self) -> str | None:
        """Address; None: not known yet."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedRun:
    """The run that a tracker is opened for."""

    folder: RunFolder
    stages: Sequence[Stage]

    config: Mapping[str, Any]
    """The resolved configuration, as JSON can hold it."""

    rows: Sequence[Row] = ()
    """Rows recorded before a resume, with `stage` and `step`."""

    notes: Sequence[Row] = ()
    """The same of notes."""

    @property
    def name(self) -> str:
        """The name of the run folder."""
        return self.folder.path.resolve().name

    def position(self, stage: str, step: int) -> int:
        """A number that grows by one with each row of the run, for services with one axis of steps.

        Each stage has a number for each of its steps and one for the state before the first.
        """
        before = 0
        for each in self.stages:
            if each.name == stage:
                return before + step
            before += each.steps + 1
        raise ValueError(f"The run has no stage {stage!r}.")

    def recorded(self) -> Iterator[tuple[Stage, int, Row]]:
        """Recorded rows, as arguments of `Tracker.log`."""
        stages = {stage.name: stage for stage in self.stages}
        for row in self.rows:
            metrics = {name: value for name, value in row.items() if name not in ("stage", "step")}
            yield stages[row["stage"]], row["step"], metrics

    def identity(self, service: str, make: Callable[[], str]) -> str:
        """The name by which `service` knows this run, kept for its resumes in the run folder.

        Args:
            make: Gives the name where there is none yet.
        """
        file = self.folder.trackers
        known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        if service not in known:
            known[service] = make()
            write_atomically(file, json.dumps(known, indent=2) + "\n")
        return str(known[service])


class TrackerSettings(Variant):
    """A tracker by name. To add one, derive from this class and define `open`."""

    remedy: ClassVar[str] = "Correct its settings, or leave it out of trackers."
    """Remedy if the tracker cannot be opened."""

    def require(self) -> None:
        """Returns if the packages that the tracker needs are installed.

        Raises:
            UserError: one is not; the message names the pip command.
        """

    @abstractmethod
    def open(self, run: TrackedRun) -> Tracker:
        """The tracker of `run`, which has taken what is on record. Exceptions are told as such."""


def flat(metrics: Row, prefix: str) -> dict[str, float]:
    """Numbers by name: `{"kl": [1, 2]}` is `{"rl/kl/0": 1, "rl/kl/1": 2}` under the prefix `rl`."""
    values: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, list | tuple):
            values |= {
                f"{prefix}/{name}/{number}": float(each) for number, each in enumerate(value)
            }
        elif isinstance(value, int | float):
            values[f"{prefix}/{name}"] = float(value)
    return values
