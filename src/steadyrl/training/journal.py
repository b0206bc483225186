"""What a run leaves behind: metrics, episodes, checkpoints, and a word to whoever watches."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import takewhile
from typing import Any, Protocol, runtime_checkable

from pydantic import Field
from torch.utils.tensorboard import SummaryWriter

from steadyrl.algorithms.protocol import Stateful
from steadyrl.base.errors import UserError
from steadyrl.base.settings import Settings
from steadyrl.evaluation.accuracy import Accuracy
from steadyrl.learners.protocol import Learner
from steadyrl.records.memory_write import MemoryWrite
from steadyrl.records.run_folder import RunFolder
from steadyrl.records.trajectory import Group, Trajectory
from steadyrl.training.checkpoint import (
    checkpoint_name,
    drop_old_checkpoints,
    save_checkpoint,
)
from steadyrl.training.stage import RunPosition, Stage


class JournalSettings(Settings):
    """What is kept, and how often."""

    checkpoint_every: int = Field(50, ge=1)
    """Steps between checkpoints. The last step of a stage always has one. Under `engine.overlap`
    the first rollout after each is sampled without overlap, with weights that are not older."""

    keep_checkpoints: int = Field(2, ge=1)
    """Newest checkpoints that are kept. The last one of each stage is kept besides."""

    completions_every: int = Field(1, ge=1)
    """Steps between those whose training episodes are written out."""

    tensorboard: bool = True
    """Write the metrics as TensorBoard events too."""

    def keeps(self, step: int, steps: int) -> bool:
        """Whether there is a checkpoint where `step` of a stage's `steps` are done."""
        return step % self.checkpoint_every == 0 or step == steps


@runtime_checkable
class Watcher(Protocol):
    """Is told how a run goes on."""

    def on_step(self, stage: Stage, step: int, row: Mapping[str, Any]) -> None:
        """`step` steps of `stage` are done; `row` is what was measured in the last one."""
        ...

    def on_note(self, stage: Stage, step: int, text: str) -> None:
        """From `step` of `stage` on, `text` holds."""
        ...


class Journal:
    """Writes a run's folder.

    Args:
        stages: All stages of the run.
        start: Where the run goes on. What is on record behind that position is dropped: it will be
            recorded again, with the same values.

    Raises:
        UserError: steps of a stage that the run does not have are on record.
    """

    def __init__(
        self,
        folder: RunFolder,
        settings: JournalSettings,
        stages: Sequence[Stage],
        start: RunPosition,
        watchers: Sequence[Watcher] = (),
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._watchers = watchers
        kept = [row for row in folder.read_metrics() if _is_done(row, stages, start)]
        folder.keep_metrics(kept)
        folder.keep_notes([n for n in folder.read_notes() if _is_done(n, stages, start)])
        folder.keep_memory([w for w in folder.read_memory() if _is_done(w, stages, start)])
        self._rows = kept
        self._events = self._open_events(kept) if settings.tensorboard else None

    def record(
        self,
        stage: Stage,
        step: int,
        metrics: Mapping[str, Any],
        groups: Sequence[Group],
        accuracy: Accuracy | None,
    ) -> None:
        """Notes what the step that ended with `step` steps done measured, and its episodes."""
        row = {"stage": stage.name, "step": step, **metrics}
        if accuracy is not None:
            row |= accuracy.metrics()
            name = f"evaluation_{stage.name}"
            self._write_completions(name, step, accuracy.split, accuracy.groups, stage)
        if groups and step % self._settings.completions_every == 0:
            self._write_completions(stage.name, step, "train", groups, stage)
        self._folder.append_metrics(row)
        self._rows.append(row)
        if self._events is not None:
            _add_events(self._events, row)
            self._events.flush()
        for watcher in self._watchers:
            watcher.on_step(stage, step, row)

    def history(self, stage: Stage) -> list[Mapping[str, Any]]:
        """What is on record of `stage`, oldest first."""
        return [row for row in self._rows if row["stage"] == stage.name]

    def note(self, stage: Stage, step: int, text: str) -> None:
        """Keeps a sentence about what the run does from `step` on, and why."""
        self._folder.append_note({"stage": stage.name, "step": step, "note": text})
        for watcher in self._watchers:
            watcher.on_note(stage, step, text)

    def note_once(self, stage: Stage, step: int, text: str, opening: str | None = None) -> None:
        """The same, unless `text` is on record of `stage`, or a note that begins with `opening`."""
        known = [n["note"] for n in self._folder.read_notes() if n["stage"] == stage.name]
        if text not in known and not (opening and any(note.startswith(opening) for note in known)):
            self.note(stage, step, text)

    def remember(self, stage: Stage, step: int, writes: Sequence[MemoryWrite]) -> None:
        """Keeps what the algorithm wrote into its memory in the step."""
        if writes:
            position = {"stage": stage.name, "step": step}
            self._folder.append_memory({**position, **asdict(write)} for write in writes)

    def keep_drift(self, stage: Stage, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keeps how likely each off-task text was after `step` steps."""
        position = {"stage": stage.name, "step": step}
        kept = ({**position, **row} for row in rows)
        self._folder.write_completions(f"drift_{stage.name}", step, kept)

    def checkpoint(self, stage: Stage, position: RunPosition, learner: Learner) -> None:
        """Saves the learner, and what the algorithm remembers, where it is due."""
        if not self._settings.keeps(position.step, stage.steps):
            return
        path = self._folder.checkpoints / checkpoint_name(stage.name, position.step)
        algorithm = stage.algorithm
        state = algorithm.state() if isinstance(algorithm, Stateful) else None
        save_checkpoint(path, learner, position, algorithm_state=state)
        drop_old_checkpoints(self._folder, self._settings.keep_checkpoints)

    def give_reference(self, stage: Stage, learner: Learner, *, fresh: bool) -> None:
        """Gives the learner the reference policy of `stage`, where that has one.

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

    def close(self) -> None:
        """Closes the event file."""
        if self._events is not None:
            self._events.close()

    def _write_completions(
        self, name: str, step: int, split: str, groups: Sequence[Group], stage: Stage
    ) -> None:
        rows = ({"stage": stage.name, "step": step, **r} for r in completion_rows(groups, split))
        self._folder.write_completions(name, step, rows)

    def _open_events(self, kept: Iterable[Mapping[str, Any]]) -> SummaryWriter:
        self._folder.remove_events()
        writer = SummaryWriter(str(self._folder.tensorboard))
        for row in kept:
            _add_events(writer, row)
        return writer


def completion_rows(groups: Sequence[Group], split: str) -> Iterable[dict[str, Any]]:
    """One flat object per episode, as pandas and duckdb read them.

    Parts of a longer episode have a field `episode` besides: a `ReflectedEpisode`, with the version
    of its form.
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
    """What was asked: the last message before the first answer. Instructions come before it."""
    asked = takewhile(lambda message: message.role != "assistant", episode.messages)
    return [message.content for message in asked][-1]


def _is_done(row: Mapping[str, Any], stages: Sequence[Stage], start: RunPosition) -> bool:
    """Whether the step of `row` lies before `start`, so that it will not be taken again."""
    names = [stage.name for stage in stages]
    if row["stage"] not in names:
        raise UserError(
            f"Steps of a stage {row['stage']!r} are on record, in a run whose stages now are "
            f"{', '.join(names)}. Resume a run with the configuration it began with."
        )
    number = names.index(row["stage"])
    begun = start.step > 0 or start.stage > number
    return (number, row["step"]) <= (start.stage, start.step) and begun


def _add_events(writer: SummaryWriter, row: Mapping[str, Any]) -> None:
    for name, value in row.items():
        tag = f"{row['stage']}/{name}"
        if isinstance(value, list):
            for number, item in enumerate(value):
                writer.add_scalar(f"{tag}/{number}", item, row["step"])
        elif name not in ("stage", "step"):
            writer.add_scalar(tag, value, row["step"])
