"""A tracker in the background neither holds up nor ends a run."""

import threading
from typing import Any

from steadyrl.training.stage import Stage
from steadyrl.training.trackers.background import BackgroundTracker
from tests.training.trackers.small import COLD, RL, ROWS, log_rows


class Service:
    """Keeps what it takes, once `free` is set; refuses some rows."""

    def __init__(self, refused: set[int] = frozenset()) -> None:  # type: ignore[assignment]
        self.free = threading.Event()
        self.taken: list[Any] = []
        self._refused = refused

    def log(self, stage: Stage, step: int, metrics: Any) -> None:
        self.free.wait(60)
        self.taken.append((stage.name, step, metrics))
        if len(self.taken) in self._refused:
            raise ConnectionError(f"call {len(self.taken)}\nrefused.")

    def note(self, stage: Stage, step: int, text: str) -> None:
        self.taken.append((stage.name, step, text))

    def close(self) -> None:
        self.taken.append("closed")


def test_rows_and_notes_arrive_in_order_before_it_is_closed() -> None:
    service = Service()
    tracker = BackgroundTracker(service, "wandb")
    log_rows(tracker, ROWS[:2])
    tracker.note(COLD, 2, "So it is.")
    assert service.taken == []
    service.free.set()
    tracker.close()
    losses = [("cold_start", 1, {"loss": 1.0}), ("cold_start", 2, {"loss": 0.5})]
    assert service.taken == [*losses, ("cold_start", 2, "So it is."), "closed"]
    assert tracker.take_failures() == []


def test_a_row_is_as_it_was_when_it_was_logged() -> None:
    service, row = Service(), {"loss": 1.0}
    tracker = BackgroundTracker(service, "wandb")
    tracker.log(RL, 1, row)
    row["loss"] = 2.0
    service.free.set()
    tracker.close()
    assert service.taken[0] == ("rl", 1, {"loss": 1.0})


def test_failures_are_told_in_a_sentence_and_later_rows_still_arrive() -> None:
    service = Service(refused={1, 3})
    service.free.set()
    tracker = BackgroundTracker(service, "mlflow")
    log_rows(tracker, ROWS)
    tracker.close()
    failures = tracker.take_failures()
    opening = (
        "The tracker 'mlflow' fails, and may lack metrics and notes, which the run folder has: "
    )
    place = "(tests/training/trackers/test_background.py:23)"
    assert failures == [
        f"{opening}ConnectionError: call {number} refused {place}." for number in (1, 3)
    ]
    assert all(text.startswith(tracker.failure_opening) for text in failures)
    assert tracker.take_failures() == []
    assert len(service.taken) == len(ROWS) + 1


def test_the_end_of_a_run_waits_a_limited_time() -> None:
    service = Service()  # never free
    tracker = BackgroundTracker(service, "mlflow", longest_close=0.01)
    log_rows(tracker, ROWS)
    tracker.close()
    (failure,) = tracker.take_failures()
    assert "it has not taken everything 0 s after the last step" in failure
    service.free.set()
