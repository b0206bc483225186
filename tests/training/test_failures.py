"""What a run does with episodes that its environment broke off."""

from dataclasses import replace
from pathlib import Path

import pytest

from steadyrl.algorithms.policy_gradient import group_metrics
from steadyrl.base.errors import UserError
from steadyrl.engines.driver import drive
from steadyrl.engines.protocol import Sampling
from steadyrl.environments.protocol import Split
from steadyrl.evaluation.accuracy import Accuracy
from steadyrl.records.reflected_episode import REFLECTION
from steadyrl.records.run_folder import RunFolder
from steadyrl.records.trajectory import Group
from steadyrl.rollout.episodes import play_groups
from steadyrl.rollout.tasks import make_tasks
from steadyrl.training.failures import note_failed_evaluation, note_failures, require_played
from steadyrl.training.journal import Journal, JournalSettings
from steadyrl.training.stage import RunPosition
from tests.rollout.fakes import TOKENIZER, ScriptedEngine, Unreliable
from tests.training.test_loop import Scripted, stage_of

STAGE = stage_of(Scripted(()))


def groups_of(*failing: int, tasks: int = 2) -> list[Group]:
    """Groups of two episodes for so many tasks, of which those numbers are not there."""
    environment = Unreliable(tasks=failing)
    return drive(
        play_groups(
            environment,
            ScriptedEngine(lambda *_: "right"),
            TOKENIZER,
            make_tasks(environment, Split.TRAIN, range(tasks)),
            group_size=2,
            sampling=Sampling(max_new_tokens=8),
            seed=0,
        )
    )


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(RunFolder(tmp_path), JournalSettings(), [STAGE], RunPosition())


def take(journal: Journal, step: int, groups: list[Group]) -> None:
    metrics = group_metrics(groups)
    require_played(STAGE, metrics, groups, journal)
    note_failures(STAGE, step, groups, (), journal)
    journal.record(STAGE, step, metrics, groups, None)


def notes(tmp_path: Path) -> list[tuple[int, str]]:
    return [(note["step"], note["note"]) for note in RunFolder(tmp_path).read_notes()]


def test_failures_are_noted_once_with_an_example(journal: Journal, tmp_path: Path) -> None:
    take(journal, 1, groups_of())
    take(journal, 2, groups_of(1))
    take(journal, 3, groups_of(0))
    ((step, note),) = notes(tmp_path)
    assert step == 2
    assert note.startswith(
        "Failures of the environment are left out of what is learned (2 in this step, later ones "
        "in environment_failed_fraction). The first one: environment failed: Unreliable.task "
        "failed on number 1 of the train split: IndexError: no task 1 ("
    )
    rows = journal.history(STAGE)
    assert [row["environment_failed_fraction"] for row in rows] == [0, 0.5, 0.5]
    assert [row["reward"] for row in rows] == [1, 1, 1]


def test_failures_that_are_in_no_group_are_noted(journal: Journal, tmp_path: Path) -> None:
    note_failures(STAGE, 1, [], ["Teacher.demonstrate failed."], journal)
    ((_, note),) = notes(tmp_path)
    assert note.endswith("The first one: Teacher.demonstrate failed.")


def test_a_reflection_on_a_broken_attempt_is_not_counted_besides(
    journal: Journal, tmp_path: Path
) -> None:
    (broken,) = groups_of(0, tasks=1)
    note_failures(STAGE, 1, [broken, replace(broken, part=REFLECTION)], [], journal)
    assert "(2 in this step" in notes(tmp_path)[0][1]


def test_a_stage_whose_environment_fails_from_the_start_stops_at_once(journal: Journal) -> None:
    told = (
        r"^All 4 episodes of the step failed\. The first one: Unreliable.task failed on number 0 "
        r".* Fix the cause and run the command again\.$"
    )
    with pytest.raises(UserError, match=told):
        take(journal, 1, groups_of(0, 1))
    assert journal.history(STAGE) == []


def test_an_environment_may_be_away_for_two_steps_and_not_for_three(journal: Journal) -> None:
    away = groups_of(0, 1)
    assert "reward" not in group_metrics(away)
    take(journal, 1, groups_of())
    for step in (2, 3):
        take(journal, step, away)
    take(journal, 4, groups_of(0))
    for step in (5, 6):
        take(journal, step, away)
    with pytest.raises(
        UserError, match=r"All 4 episodes of the step failed, and of the 2 before it\."
    ):
        take(journal, 7, away)


def test_tasks_that_an_evaluation_lacks_are_noted_once(journal: Journal, tmp_path: Path) -> None:
    note_failed_evaluation(STAGE, 0, Accuracy(groups=tuple(groups_of())), journal)
    for step in (1, 2):
        accuracy = Accuracy(groups=tuple(groups_of(1, tasks=3)))
        note_failed_evaluation(STAGE, step, accuracy, journal)
        assert accuracy.score == 1.0
    ((step, note),) = notes(tmp_path)
    assert step == 1
    assert note.startswith(
        "Evaluation: failures of the environment are left out of the score (1 of 3 tasks have no "
        "sound episode). The first one: environment failed: Unreliable.task failed on number 1 of"
    )
