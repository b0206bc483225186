"""A run of another trainer is diagnosed from its log."""

import logging

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from steadyrl.analysis import Status
from steadyrl.integrations.steady_callback import SteadyCallback, rows_of

LOG = [
    {"step": step, "reward": 0.5, "grad_norm": 1.0, "frac_reward_zero_std": 0.25, "loss": 0.1}
    for step in range(1, 13)
]
"""A healthy run."""


def diagnosed(log: list[dict[str, float]], tmp_path: str) -> SteadyCallback:
    callback = SteadyCallback()
    state = TrainerState(log_history=log, is_world_process_zero=True)
    arguments = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    callback.on_log(arguments, state, TrainerControl())
    return callback


def test_metrics_of_trl_get_our_names() -> None:
    (row,) = rows_of([LOG[0], {"step": 1, "eval_loss": 2.0}, {"train_runtime": 3.0, "step": 12}])

    assert row["no_signal_fraction"] == 0.25
    assert row["gradient_norm"] == 1.0
    assert "response_length" not in row


def test_a_healthy_run_is_not_warned_of(tmp_path: str, caplog: pytest.LogCaptureFixture) -> None:
    callback = diagnosed(LOG, tmp_path)

    assert callback.diagnosis is not None
    assert callback.diagnosis.status is Status.HEALTHY
    assert "mismatch_kl_k3" in callback.diagnosis.missing
    assert not caplog.records


def test_a_collapse_is_told_with_its_step(tmp_path: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        callback = diagnosed(
            [{**row, "reward": 0.5 if row["step"] < 9 else 0.0} for row in LOG], tmp_path
        )

    assert callback.diagnosis is not None
    assert callback.diagnosis.status is Status.COLLAPSED
    assert callback.diagnosis.step == 10  # the second of three in the running median
    assert "collapsed at step 10" in caplog.text


def test_nothing_is_said_before_the_first_reward(tmp_path: str) -> None:
    assert diagnosed([{"step": 1, "learning_rate": 0.1}], tmp_path).diagnosis is None
