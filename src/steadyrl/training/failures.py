"""What fails: notes about episodes and engines, and when failed episodes stop the run."""

from collections.abc import Mapping, Sequence
from typing import Any

from steadyrl.base.errors import UserError
from steadyrl.engines.protocol import Engine, SupportsRestarts
from steadyrl.evaluation.accuracy import Accuracy
from steadyrl.records.reflected_episode import REFLECTION
from steadyrl.records.trajectory import Group, Trajectory, first_failure
from steadyrl.training.journal import Journal
from steadyrl.training.stage import Stage

FAILED = "environment_failed_fraction"

MOST_FAILED_STEPS = 2
"""Maximum number of consecutive steps that may fail entirely, as when a service is unavailable."""


def note_failures(
    stage: Stage, step: int, groups: Sequence[Group], failures: Sequence[str], journal: Journal
) -> None:
    """Notes once per stage that its environment fails, with an example.

    Args:
        failures: Failures of tasks and demonstrations without an episode in `groups`.
    """
    reasons = [*failures, *(episode.truncation_reason for episode in _failed(groups))]
    if reasons:
        opening = "Failures of the environment are left out of what is learned"
        counted = f"{len(reasons)} in this step, later ones in {FAILED}"
        journal.note_once(stage, step, f"{opening} ({counted}). {_first(reasons)}", opening)


def note_failed_evaluation(stage: Stage, step: int, accuracy: Accuracy, journal: Journal) -> None:
    """Notes once per stage that episodes of an evaluation failed, with an example."""
    reasons = [episode.truncation_reason for episode in _failed(accuracy.groups)]
    if reasons:
        opening = "Evaluation: failures of the environment are left out of the score"
        tasks = f"{accuracy.failed_tasks} of {len(accuracy.groups)} tasks have no sound episode"
        journal.note_once(stage, step, f"{opening} ({tasks}). {_first(reasons)}", opening)


def note_restarts(stage: Stage, step: int, engine: Engine, journal: Journal) -> dict[str, int]:
    """Notes each restart of the engine since the last call; returns their number as a metric."""
    reasons = engine.take_restarts() if isinstance(engine, SupportsRestarts) else ()
    for reason in reasons:
        journal.note(stage, step, reason)
    return {"engine_restarts": len(reasons)} if reasons else {}


def require_played(
    stage: Stage, metrics: Mapping[str, Any], groups: Sequence[Group], journal: Journal
) -> None:
    """Checks that the environment completed an episode in this step or shortly before.

    Raises:
        UserError: every episode of the stage or of too many consecutive steps failed.
    """
    if metrics.get(FAILED) != 1.0:
        return
    before = [row[FAILED] for row in journal.history(stage) if FAILED in row]
    if any(share < 1.0 for share in before[-MOST_FAILED_STEPS:]):
        return
    failed = _failed(groups)
    steps = len(before[-MOST_FAILED_STEPS:])
    raise UserError(
        f"All {len(failed)} episodes of the step failed"
        f"{f', and of the {steps} before it' if steps else ''}. "
        f"{first_failure(failed)}"
    )


def _failed(groups: Sequence[Group]) -> list[Trajectory]:
    """Failed episodes, without the reflections on them."""
    episodes = [t for group in groups if group.part != REFLECTION for t in group.trajectories]
    return [episode for episode in episodes if episode.environment_failed]


def _first(reasons: Sequence[str]) -> str:
    return f"The first one: {reasons[0].rstrip('.')}."
