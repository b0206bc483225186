"""Runs whose engine is perturbed."""

from pathlib import Path
from typing import Any

import pytest

from steadyrl.engines.local import LocalEngineSettings
from steadyrl.learners.local import LocalLearnerSettings
from steadyrl.policies.numerics import Numerics
from steadyrl.records.run_folder import RunFolder
from steadyrl.run.execution import resume_run, start_run
from tests.run.test_execution import StopAfter
from tests.run.tiny import tiny_run

NOISE = LocalEngineSettings(numerics=Numerics.FLOAT32, routing_noise=1.0, weight_noise=0.02)


def rows(path: Path) -> list[dict[str, Any]]:
    """Metrics of the run at `path`, without times."""
    timed = ("seconds", "_per_second")
    metrics = RunFolder(path).read_metrics()
    return [{k: v for k, v in row.items() if not k.endswith(timed)} for row in metrics]


def test_noise_is_felt_in_rollouts_and_not_in_held_out_scores(tmp_path: Path) -> None:
    clean = NOISE.without_noise()
    start_run(tiny_run(engine=NOISE, steps=1, routing_replay="none"), tmp_path / "noisy")
    start_run(tiny_run(engine=clean, steps=1, routing_replay="none"), tmp_path / "clean")
    noisy_rows, clean_rows = rows(tmp_path / "noisy"), rows(tmp_path / "clean")
    (noisy,), (plain,) = (
        [row for row in some if row["stage"] == "rl" and row["step"] == 1]
        for some in (noisy_rows, clean_rows)
    )
    first = [
        next(row for row in some if row["stage"] == "rl" and row["step"] == 0)
        for some in (noisy_rows, clean_rows)
    ]

    assert noisy["routing_disagreement"] > plain["routing_disagreement"] + 0.1
    assert noisy["mismatch_kl_k3"] > 10 * plain["mismatch_kl_k3"]
    assert first[0]["score"] == first[1]["score"]


def test_log_probabilities_of_the_trainer_leave_no_mismatch_at_all(tmp_path: Path) -> None:
    engine = NOISE.without_noise()
    learner = LocalLearnerSettings(rollout_logprobs="trainer")
    start_run(tiny_run(engine=engine, learner=learner, steps=2), tmp_path)
    steps = [row for row in rows(tmp_path) if row["stage"] == "rl" and row["step"] > 0]

    assert len(steps) == 2
    assert [row["mismatch_kl_k3"] for row in steps] == [0.0, 0.0]
    assert all(row["staleness_kl_k3"] > 0 for row in steps)


@pytest.mark.slow
def test_a_run_with_noise_is_resumed_to_the_same_bits(tmp_path: Path) -> None:
    config = tiny_run(engine=NOISE)
    start_run(config, tmp_path / "undisturbed")
    with pytest.raises(KeyboardInterrupt):
        start_run(config, tmp_path / "stopped", [StopAfter("rl", 3)])
    resume_run(tmp_path / "stopped")

    assert rows(tmp_path / "stopped") == rows(tmp_path / "undisturbed")
