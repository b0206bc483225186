"""What TensorBoard reads of a run."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from steadyrl.training.trackers import TensorBoardSettings
from tests.training.trackers.small import RL, ROWS, expected_scalars, log_rows, tracked_run


def events_of(path: Path) -> EventAccumulator:
    events = EventAccumulator(str(path / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return events


def scalars(path: Path) -> dict[tuple[str, int], float]:
    """Values by tag and step, each of which must be there once."""
    events = events_of(path)
    found: dict[tuple[str, int], float] = {}
    for tag in events.Tags()["scalars"]:
        for event in events.Scalars(tag):
            assert (tag, event.step) not in found
            found[tag, event.step] = event.value
    return found


def test_scalars_are_those_of_the_metrics(tmp_path: Path) -> None:
    tracker = TensorBoardSettings().open(tracked_run(tmp_path))
    log_rows(tracker, ROWS)
    tracker.close()
    assert scalars(tmp_path) == pytest.approx(expected_scalars(), nan_ok=True)


def test_a_resumed_run_has_each_value_once(tmp_path: Path) -> None:
    first = TensorBoardSettings().open(tracked_run(tmp_path))
    log_rows(first, ROWS[:5])
    first.close()
    resumed = TensorBoardSettings().open(tracked_run(tmp_path, ROWS[:4]))
    log_rows(resumed, ROWS[4:])
    resumed.close()
    assert scalars(tmp_path) == pytest.approx(expected_scalars(), nan_ok=True)


def test_notes_are_texts_of_their_stage(tmp_path: Path) -> None:
    tracker = TensorBoardSettings().open(tracked_run(tmp_path))
    tracker.note(RL, 2, "So it is.")
    tracker.close()
    (note,) = events_of(tmp_path).Tensors("rl/notes/text_summary")
    assert note.step == 2
    assert note.tensor_proto.string_val == [b"So it is."]
