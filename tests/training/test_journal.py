"""What a run leaves behind, and what of it holds when the run goes on from a checkpoint."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from steadyrl.base.errors import UserError
from steadyrl.environments.protocol import Split
from steadyrl.evaluation.accuracy import Accuracy
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.records.completion import FinishReason
from steadyrl.records.memory_write import MemoryWrite
from steadyrl.records.message import Message
from steadyrl.records.reflected_episode import ReflectedEpisode
from steadyrl.records.run_folder import RunFolder
from steadyrl.records.trajectory import Group, Trajectory
from steadyrl.training.journal import Journal, JournalSettings, completion_rows
from steadyrl.training.stage import RunPosition, Stage
from steadyrl.training.trackers import TrackedRun, Tracker, TrackerSettings
from tests.learners.small import Idle, completion_of


def stage(name: str, steps: int) -> Stage:
    return Stage(
        name=name, algorithm=Idle(), steps=steps, optimizer=OptimizerSettings(), temperature=1.0
    )


STAGES = [stage("cold_start", 2), stage("rl", 5)]


def episode(answer: str, reward: float, **changes: Any) -> Trajectory:
    messages = (Message(role="user", content="3+4="), Message(role="assistant", content=answer))
    values = {
        "task_id": "arithmetic/train/0",
        "messages": messages,
        "completions": (completion_of(2),),
        "reward": reward,
        "terminated": True,
        "truncated": False,
    }
    return Trajectory(**{**values, **changes})


GROUP = Group(
    task_id="arithmetic/train/0",
    trajectories=(
        episode("7", 1.0, feedback="every step is right"),
        episode(
            '8 "and"\nmore',
            0.25,
            completions=(completion_of(4, FinishReason.LENGTH),),
            terminated=False,
            truncated=True,
            truncation_reason="token budget spent",
        ),
    ),
)


BEGINNING = RunPosition()


def journal_in(path: Path, start: RunPosition = BEGINNING, **settings: Any) -> Journal:
    return Journal(RunFolder(path), JournalSettings(**settings), STAGES, start)


def write_steps(journal: Journal) -> None:
    """Cold start 1 and 2; reinforcement 0 to 5, evaluated at 0."""
    for number in (1, 2):
        journal.record(STAGES[0], number, {"loss": 1.0 / number}, (), None)
    journal.record(STAGES[1], 0, {}, (), Accuracy(groups=(GROUP,)))
    for number in range(1, 6):
        metrics = {"reward": number / 8, "routing_disagreement_per_layer": [0.5, number / 4]}
        journal.record(STAGES[1], number, metrics, (GROUP,), None)
    journal.close()


def places(path: Path) -> list[tuple[str, int]]:
    return [(row["stage"], row["step"]) for row in RunFolder(path).read_metrics()]


ALL = [("cold_start", 1), ("cold_start", 2), *(("rl", number) for number in range(6))]


def test_metrics_are_one_row_a_step_with_scores_where_evaluated(tmp_path: Path) -> None:
    write_steps(journal_in(tmp_path))
    rows = RunFolder(tmp_path).read_metrics()

    assert places(tmp_path) == ALL
    assert rows[1] == {"stage": "cold_start", "step": 2, "loss": 0.5}
    # Mean reward (1 + 0.25) / 2. One of two samples is right: with k = 2, 1 - C(1,2)/C(2,2) = 1.
    measured = {"score": 0.625, "score_pass_at_k": 1.0, "score_failed_fraction": 0.0}
    measured["score_failed_tasks"] = 0
    assert rows[2] == {"stage": "rl", "step": 0, **measured}


def test_completions_name_their_split_and_what_was_asked(tmp_path: Path) -> None:
    rules = Message(role="system", content="Rules.")
    asked = episode("7", 1.0)
    asked = replace(asked, messages=(rules, *asked.messages))
    group = Group(task_id="t", trajectories=(asked,))
    journal = journal_in(tmp_path)
    journal.record(STAGES[1], 0, {}, (), Accuracy(groups=(group,), split=Split.VALIDATION))
    journal.close()
    file = tmp_path / "completions" / "evaluation_rl-000000.jsonl"
    row = json.loads(file.read_text())
    assert (row["split"], row["prompt"]) == ("validation", "3+4=")


@pytest.mark.parametrize(
    ("start", "kept"),
    [
        (RunPosition(), 0),
        (RunPosition(stage=0, step=1), 1),
        (RunPosition(stage=0, step=2), 2),
        (RunPosition(stage=1, step=2), 5),
        (RunPosition(stage=1, step=5), 8),
    ],
)
def test_rows_behind_the_checkpoint_are_dropped(
    tmp_path: Path, start: RunPosition, kept: int
) -> None:
    write_steps(journal_in(tmp_path))
    journal_in(tmp_path, start).close()

    assert places(tmp_path) == ALL[:kept]


def test_a_run_that_begins_anew_forgets_its_first_evaluation(tmp_path: Path) -> None:
    stages = [stage("rl", 5)]
    for _ in range(2):  # the second time after a kill before the first checkpoint
        journal = Journal(RunFolder(tmp_path), JournalSettings(), stages, BEGINNING)
        journal.record(stages[0], 0, {}, (), Accuracy(groups=(GROUP,)))
        journal.close()

    assert places(tmp_path) == [("rl", 0)]


def test_steps_of_a_stage_that_the_run_has_lost_are_refused(tmp_path: Path) -> None:
    write_steps(journal_in(tmp_path))
    told = r"stage 'cold_start' are on record, .* stages now are rl\. Resume a run with the"
    with pytest.raises(UserError, match=told):
        Journal(RunFolder(tmp_path), JournalSettings(), STAGES[1:], BEGINNING)


def test_a_row_cut_off_by_a_kill_is_dropped(tmp_path: Path) -> None:
    write_steps(journal_in(tmp_path))
    metrics = RunFolder(tmp_path).metrics
    metrics.write_text(metrics.read_text()[:-9])
    journal = journal_in(tmp_path, RunPosition(stage=1, step=4))
    journal.record(STAGES[1], 5, {"reward": 0.75}, (), None)
    journal.close()

    assert places(tmp_path) == ALL
    assert RunFolder(tmp_path).read_metrics()[-1]["reward"] == 0.75


def test_completions_are_read_by_duckdb(tmp_path: Path) -> None:
    write_steps(journal_in(tmp_path))
    files = tmp_path / "completions" / "rl-*.jsonl"
    (row,) = duckdb.sql(
        f"select avg(reward), count(*), max(response_tokens), count(distinct step) "
        f"from read_json_auto('{files}')"
    ).fetchall()
    (cut,) = duckdb.sql(
        f"select split, task_id, sample, prompt, response, finish_reason, truncation_reason, "
        f"conversation[1].role from read_json_auto('{files}') where sample = 1 and step = 3"
    ).fetchall()

    assert row == (0.625, 10, 4, 5)
    assert cut == (
        "train",
        "arithmetic/train/0",
        1,
        "3+4=",
        '8 "and"\nmore',
        "length",
        "token budget spent",
        "user",
    )


def test_episodes_of_evaluations_are_kept_apart(tmp_path: Path) -> None:
    write_steps(journal_in(tmp_path))
    file = tmp_path / "completions" / "evaluation_rl-000000.jsonl"
    rows = duckdb.sql(f"select distinct split, stage, step from read_json_auto('{file}')")

    assert rows.fetchall() == [("test", "rl", 0)]


def test_completions_are_written_as_often_as_asked(tmp_path: Path) -> None:
    write_steps(journal_in(tmp_path, completions_every=2))
    names = {path.name for path in (tmp_path / "completions").glob("rl-*")}

    assert names == {"rl-000002.jsonl", "rl-000004.jsonl"}


class Told:
    """A tracker that keeps what it is told."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.notes: list[tuple[str, int, str]] = []
        self.closed = False

    def log(self, stage: Stage, step: int, metrics: Any) -> None:
        self.rows.append({"stage": stage.name, "step": step, **metrics})

    def note(self, stage: Stage, step: int, text: str) -> None:
        self.notes.append((stage.name, step, text))

    def close(self) -> None:
        self.closed = True


def test_trackers_are_told_each_row_and_note(tmp_path: Path) -> None:
    told = Told()
    journal = Journal(RunFolder(tmp_path), JournalSettings(), STAGES, RunPosition(), opened=[told])
    journal.note(STAGES[1], 3, "Why.")
    write_steps(journal)

    assert told.rows == RunFolder(tmp_path).read_metrics()
    assert [(row["stage"], row["step"]) for row in told.rows] == ALL
    assert told.notes == [("rl", 3, "Why.")]
    assert RunFolder(tmp_path).read_notes() == [{"stage": "rl", "step": 3, "note": "Why."}]
    assert not told.closed  # the next journal of a run that resumes by itself uses it, too


class Broken(Told):
    """A tracker whose service is away."""

    def log(self, stage: Stage, step: int, metrics: Any) -> None:
        super().log(stage, step, metrics)
        raise OSError("no route to host")


class BrokenSettings(TrackerSettings):
    def open(self, run: TrackedRun) -> Tracker:
        return Broken()


class RefusedSettings(TrackerSettings):
    def open(self, run: TrackedRun) -> Tracker:
        raise OSError("no route to host")


def test_a_tracker_that_fails_is_noted_once_and_the_run_goes_on(tmp_path: Path) -> None:
    told = Told()
    journal = Journal(
        RunFolder(tmp_path),
        JournalSettings(),
        STAGES,
        RunPosition(),
        trackers=[BrokenSettings()],
        opened=[told],
    )
    write_steps(journal)

    assert places(tmp_path) == ALL
    failing = "lack metrics and notes, which the run folder has: OSError: no route to host ("
    notes = [note["note"] for note in RunFolder(tmp_path).read_notes()]
    assert notes.count(notes[0]) == len(notes) in (1, 2)  # once in each stage that noticed it
    assert failing in notes[0]
    assert notes[0].startswith("The tracker 'tests.training.test_journal:BrokenSettings' ")
    assert [text for _, _, text in told.notes] == notes


def test_a_tracker_that_cannot_be_opened_stops_the_run_before_it_begins(tmp_path: Path) -> None:
    told = Told()
    with pytest.raises(
        UserError,
        match=r"RefusedSettings' cannot be opened: OSError: no route .*\. Correct its settings, or",
    ):
        Journal(
            RunFolder(tmp_path),
            JournalSettings(),
            STAGES,
            RunPosition(),
            trackers=[BrokenSettings(), RefusedSettings()],
            opened=[told],
        )
    assert not told.closed


# What an algorithm remembers, and the parts of its episodes.


def test_a_note_that_is_kept_once_is_kept_again_by_another_stage_alone(tmp_path: Path) -> None:
    journal = journal_in(tmp_path)
    for where, step in ((STAGES[1], 1), (STAGES[1], 2), (STAGES[0], 2)):
        journal.note_once(where, step, "So it is.")
    kept = [(note["stage"], note["step"]) for note in RunFolder(tmp_path).read_notes()]
    assert kept == [("rl", 1), ("cold_start", 2)]


def remembered(path: Path) -> list[tuple[str, int, int, str]]:
    rows = RunFolder(path).read_memory()
    return [(row["stage"], row["step"], row["slot"], row["text"]) for row in rows]


def write_memory(journal: Journal) -> None:
    """Two writes in step 2, one in step 4."""
    write_steps(journal)
    for number, texts in ((1, []), (2, ["a", 'b "ü" \ud800']), (4, ["c"])):
        writes = [MemoryWrite(slot=n, task_id="t", text=text) for n, text in enumerate(texts)]
        journal.remember(STAGES[1], number, writes)


WRITES = [("rl", 2, 0, "a"), ("rl", 2, 1, 'b "ü" \ud800'), ("rl", 4, 0, "c")]


def test_every_write_into_a_memory_is_on_record(tmp_path: Path) -> None:
    write_memory(journal_in(tmp_path))
    assert remembered(tmp_path) == WRITES
    assert RunFolder(tmp_path).read_memory()[0]["task_id"] == "t"


def test_a_run_that_remembers_nothing_has_no_such_file(tmp_path: Path) -> None:
    write_steps(journal_in(tmp_path))
    journal_in(tmp_path, RunPosition(stage=1, step=4)).close()
    assert not (tmp_path / "memory.jsonl").exists()


@pytest.mark.parametrize(("step", "kept"), [(5, 3), (4, 3), (3, 2), (1, 0)])
def test_writes_behind_the_checkpoint_are_dropped(tmp_path: Path, step: int, kept: int) -> None:
    write_memory(journal_in(tmp_path))
    journal_in(tmp_path, RunPosition(stage=1, step=step)).close()
    assert remembered(tmp_path) == WRITES[:kept]


def test_completions_name_the_part_of_an_episode_and_need_no_tokens() -> None:
    written = episode("a lesson", 1.0, completions=())
    unreachable = episode("", 0.0, completions=(), truncation_reason="nobody there")
    group = Group(task_id="t", trajectories=(written, unreachable), part="reflection")
    rows = list(completion_rows([group, GROUP], "train"))

    assert [row["part"] for row in rows] == ["reflection"] * 2 + [""] * 2
    assert [row["finish_reason"] for row in rows] == ["", "", "stop", "length"]
    assert [row["response_tokens"] for row in rows] == [0, 0, 2, 4]


def test_parts_of_an_episode_say_which_and_what_became_of_it(tmp_path: Path) -> None:
    story = ReflectedEpisode(number=3, reflects=True, recalled=(0,), internalized=True)
    part = replace(GROUP.trajectories[0], episode=story)
    group = Group(task_id="t", trajectories=(part,), part="first_attempt")
    journal = journal_in(tmp_path)
    journal.record(STAGES[1], 1, {}, (group, GROUP), None)
    journal.close()
    file = tmp_path / "completions" / "rl-000001.jsonl"
    found = duckdb.sql(f"select part, episode from read_json_auto('{file}') order by part desc")

    field = {
        "version": 1,
        "number": 3,
        "reflects": True,
        "recalled": [0],
        "internalized": True,
        "remembered": None,
        "failure": "",
    }
    assert found.fetchall() == [("first_attempt", field), ("", None), ("", None)]
    assert ["episode" in json.loads(line) for line in file.read_text().splitlines()] == [
        True,
        False,
        False,
    ]
