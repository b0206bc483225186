"""A run notes once that a signal has left its normal range."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from steadyrl.records.run_folder import RunFolder
from steadyrl.training.journal import Journal, JournalSettings
from steadyrl.training.signal_notes import note_signals
from steadyrl.training.stage import RunPosition
from tests.training.test_loop import Scripted, stage_of

STAGE = stage_of(Scripted(()))


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(RunFolder(tmp_path), JournalSettings(), [STAGE], RunPosition())


def noted(journal: Journal, folder: Path, metric: str, values: Sequence[float]) -> list[str]:
    """The notes after steps that recorded these values."""
    for step, value in enumerate(values, start=1):
        journal.record(STAGE, step, {metric: value, "gradient_steps": 2}, (), None)
        note_signals(STAGE, step, journal)
    return [f"{note['step']}: {note['note']}" for note in RunFolder(folder).read_notes()]


def test_a_departure_is_noted_once_at_the_step_at_which_it_happens(
    journal: Journal, tmp_path: Path
) -> None:
    # Medians of three: 1 up to step 4, 0.3 from step 5 on.
    (note,) = noted(journal, tmp_path, "ess", [1, 1, 1, 0.3, 0.3, 0.2, 0.2])
    assert note.startswith(
        "5: Effective sample size reached 0.3 at step 5, below 0.5: half of the tokens. `steadyrl"
    )


def test_the_number_of_updates_decides_how_much_staleness_is_normal(
    journal: Journal, tmp_path: Path
) -> None:
    # 0.05 (N - 1)(2N - 1) / 6 is 0.025 for the two updates that each step records.
    (note,) = noted(journal, tmp_path, "staleness_kl_k3", [0.024, 0.024, 0.024, 0.026, 0.026])
    assert note.startswith("5: Staleness KL (k3) reached 0.026 at step 5, above 0.025")


def test_a_sound_run_has_no_such_note(journal: Journal, tmp_path: Path) -> None:
    assert noted(journal, tmp_path, "ess", [1, 0.9, 0.2, 0.9, 1, 0.8]) == []
