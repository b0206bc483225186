"""The journal of a run: metrics and notes for its trackers, episodes for its folder."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import takewhile
from typing import Any

from pydantic import Field

from steadyrl.base.errors import UserError, call_user_code
from steadyrl.base.settings import Settings
from steadyrl.evaluation.accuracy import Accuracy
from steadyrl.records.memory_write import MemoryWrite
from steadyrl.records.run_folder import RunFolder
from steadyrl.records.trajectory import Group, Trajectory
from steadyrl.training.stage import RunPosition, Stage
from steadyrl.training.trackers.background import BackgroundTracker
from steadyrl.training.trackers.jsonl import JsonlSettings, JsonlTracker
from steadyrl.training.trackers.protocol import HasAddress, TrackedRun, Tracker, TrackerSettings


class JournalSettings(Settings):
    """Settings of what a run saves, and how often."""

    checkpoint_every: int = Field(50, ge=1)
    """Number of steps between checkpoints. The last step of a stage always has one. The first
    rollout after each is sampled with the newest weights, also with `engine.max_staleness`, unless
    `engine.in_flight` is continue."""

    keep_checkpoints: int = Field(2, ge=1)
    """Number of newest checkpoints to keep. The last checkpoint of each stage is always kept."""

    completions_every: int = Field(1, ge=1)
    """Number of steps between those whose training episodes are saved."""

    def keeps(self, step: int, steps: int) -> bool:
        """Whether a checkpoint is saved after `step` of a stage's `steps`."""
        return step % self.checkpoint_every == 0 or step == steps


class Journal:
    """Records metrics, notes and episodes in trackers and in the run folder.

    Args:
        stages: All stages of the run.
        start: Position at which the run starts or resumes. Later records are removed, because they
            will be recorded again with the same values.
        trackers: Receive metrics and notes; JSONL is always among them.
        opened: Open trackers, such as the live view. Their exceptions end the run. They stay open:
            a run that resumes by itself has another journal, and the same view.
        config: The resolved configuration, for trackers that show it.

    Raises:
        UserError: the records contain a stage that the run does not have, or a tracker cannot be
            opened.
    """

    def __init__(
        self,
        folder: RunFolder,
        settings: JournalSettings,
        stages: Sequence[Stage],
        start: RunPosition,
        trackers: Sequence[TrackerSettings] = (),
        opened: Sequence[Tracker] = (),
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self._folder = folder
        self._settings = settings
        rows, notes, writes = (
            [row for row in read() if _is_done(row, stages, start)]
            for read in (folder.read_metrics, folder.read_notes, folder.read_memory)
        )
        folder.keep_metrics(rows)
        folder.keep_notes(notes)
        folder.keep_memory(writes)
        self._rows: list[Mapping[str, Any]] = [*rows]
        self._latest = (stages[start.stage], start.step)
        self._trackers: list[Tracker] = [JsonlTracker(folder), *opened]
        self._services: list[BackgroundTracker] = []
        run = TrackedRun(folder=folder, stages=stages, config=config or {}, rows=rows, notes=notes)
        self._open(trackers, run)

    def record(
        self,
        stage: Stage,
        step: int,
        metrics: Mapping[str, Any],
        groups: Sequence[Group],
        accuracy: Accuracy | None,
    ) -> None:
        """Records the metrics and episodes of the last of `step` steps."""
        measured = dict(metrics)
        if accuracy is not None:
            measured |= accuracy.metrics()
            name = f"evaluation_{stage.name}"
            self._write_completions(name, step, accuracy.split, accuracy.groups, stage)
        if groups and step % self._settings.completions_every == 0:
            self._write_completions(stage.name, step, "train", groups, stage)
        self._rows.append({"stage": stage.name, "step": step, **measured})
        self._latest = (stage, step)
        for tracker in (*self._trackers, *self._services):
            tracker.log(stage, step, measured)
        self._note_failures()

    def history(self, stage: Stage) -> list[Mapping[str, Any]]:
        """Recorded metrics of `stage`, oldest first."""
        return [row for row in self._rows if row["stage"] == stage.name]

    def note(self, stage: Stage, step: int, text: str) -> None:
        """Records a sentence about what the run does from `step` on, and why."""
        for tracker in (*self._trackers, *self._services):
            tracker.note(stage, step, text)

    def note_once(self, stage: Stage, step: int, text: str, opening: str | None = None) -> None:
        """Records a note, unless the stage has the same note or one that begins with `opening`."""
        known = [n["note"] for n in self._folder.read_notes() if n["stage"] == stage.name]
        if text not in known and not (opening and any(note.startswith(opening) for note in known)):
            self.note(stage, step, text)

    def remember(self, stage: Stage, step: int, writes: Sequence[MemoryWrite]) -> None:
        """Records the memory writes of a step."""
        if writes:
            position = {"stage": stage.name, "step": step}
            self._folder.append_memory({**position, **asdict(write)} for write in writes)

    def keep_drift(self, stage: Stage, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Saves the likelihood of each off-task text after `step` steps."""
        position = {"stage": stage.name, "step": step}
        kept = ({**position, **row} for row in rows)
        self._folder.write_completions(f"drift_{stage.name}", step, kept)

    def close(self) -> None:
        """Closes the trackers that it opened. Waits for a limited time for services."""
        services, self._services = self._services, []
        for service in services:
            service.close()
        self._note_failures(services)

    def _open(self, trackers: Sequence[TrackerSettings], run: TrackedRun) -> None:
        for settings in trackers:
            if isinstance(settings, JsonlSettings):
                continue
            try:
                tracker = call_user_code(
                    partial(settings.open, run),
                    failure=f"The tracker {settings.name!r} cannot be opened",
                    remedy=settings.remedy,
                )
            except BaseException:
                self.close()
                raise
            self._services.append(BackgroundTracker(tracker, settings.name))
            if isinstance(tracker, HasAddress) and tracker.address is not None:
                text = f"The tracker {settings.name!r} shows this run at {tracker.address}."
                self.note_once(*self._latest, text)

    def _note_failures(self, services: Sequence[BackgroundTracker] | None = None) -> None:
        """Notes once per stage that a tracker failed; the run continues without it."""
        for service in self._services if services is None else services:
            for failure in service.take_failures():
                self.note_once(*self._latest, failure, service.failure_opening)

    def _write_completions(
        self, name: str, step: int, split: str, groups: Sequence[Group], stage: Stage
    ) -> None:
        rows = ({"stage": stage.name, "step": step, **r} for r in completion_rows(groups, split))
        self._folder.write_completions(name, step, rows)


def completion_rows(groups: Sequence[Group], split: str) -> Iterable[dict[str, Any]]:
    """One flat object per episode, readable by pandas and duckdb.

    Parts of a longer episode also have a field `episode`: a `ReflectedEpisode` with the version of
    its format.
    """
    for group in groups:
        for sample, episode in enumerate(group.trajectories):
            turns = [m.content for m in episode.messages if m.role == "assistant"]
            finish = [c.finish_reason.value for c in episode.completions[-1:]]
            yield {
                "split": split,
                "part": group.part,
                "task_id": group.task_id,
                "sample": sample,
                "prompt": _task_of(episode),
                "response": "\n".join(turns),
                "reward": episode.reward,
                **({"reward_parts": dict(episode.reward_parts)} if episode.reward_parts else {}),
                "finish_reason": "".join(finish),
                "response_tokens": sum(len(c.token_ids) for c in episode.completions),
                "feedback": episode.feedback,
                "truncation_reason": episode.truncation_reason,
                "conversation": [{"role": m.role, "content": m.content} for m in episode.messages],
                **({"episode": episode.episode.as_field()} if episode.episode else {}),
            }


def _task_of(episode: Trajectory) -> str:
    """The task: the last message before the first response. Instructions come before it."""
    asked = takewhile(lambda message: message.role != "assistant", episode.messages)
    return [message.content for message in asked][-1]


def _is_done(row: Mapping[str, Any], stages: Sequence[Stage], start: RunPosition) -> bool:
    """Whether the step of `row` comes before `start`, so that it will not be repeated."""
    names = [stage.name for stage in stages]
    if row["stage"] not in names:
        raise UserError(
            f"Steps of a stage {row['stage']!r} are on record, in a run whose stages now are "
            f"{', '.join(names)}. Resume a run with the configuration it began with."
        )
    number = names.index(row["stage"])
    begun = start.step > 0 or start.stage > number
    return (number, row["step"]) <= (start.stage, start.step) and begun
