"""Tokens and seconds of a step."""

import time

import pytest

from steadyrl.training.stopwatch import Stopwatch
from tests.learners.small import made_up_batch
from tests.progress import Heard


def test_rates_are_tokens_of_each_part_over_its_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    # Started at 0; rollout 1 to 3; update 3 to 7 and again 7 to 9; read at 10.
    ticks = iter([0.0, 1.0, 3.0, 3.0, 7.0, 7.0, 9.0, 10.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    watch = Stopwatch()
    for part in ("rollout", "update", "update"):
        with watch.measure(part):
            pass
    batch, other = made_up_batch(), made_up_batch(seed=3)
    metrics = watch.metrics(sampled=14, scored=[], updated=[batch, other])
    positions = int(batch.attention_mask.sum()) + int(other.attention_mask.sum())

    assert metrics == {
        "seconds": 10.0,
        "rollout_seconds": 2.0,
        "rollout_tokens_per_second": 7.0,
        "update_seconds": 6.0,
        "update_tokens_per_second": positions / 6,
    }


def test_each_part_is_announced_with_its_place_when_it_begins() -> None:
    progress = Heard()
    watch = Stopwatch(progress, stage="rl", step=3, steps=7)
    with watch.measure("rollout"):
        assert progress.phases == [("rollout", "rl", 3, 7)]
    with watch.measure("update"):
        pass

    assert progress.phases[1:] == [("update", "rl", 3, 7)]
    assert watch.seconds("evaluation") == {}
    assert watch.seconds("update")["update_seconds"] > 0
