"""Runs of other trainers get the diagnosis that their logs support, in their trainer's words."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from benchmarks.foreign_log_writers import FAULTS, LOGS, curves
from benchmarks.foreign_logs import expected, verdict
from tests.analysis.foreign.public_excerpts import (
    NEMO_RL,
    PRIME_ORCHESTRATOR,
    PRIME_TRAINER,
    SLIME,
    TRL_NOTEBOOK,
    TRL_OF_2025,
    VERL,
    VERL_WITH_SCORES,
)

from steadyrl.analysis.causes import CauseName
from steadyrl.analysis.diagnosis import Status
from steadyrl.analysis.foreign import read_foreign_run
from steadyrl.base.errors import UserError
from steadyrl.base.wording import MINUS

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results" / "foreign_logs.json"


def written(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "train.log"
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", LOGS)
def test_faults_are_named_as_far_as_the_log_shows_them(
    name: str, fault: str, tmp_path: Path
) -> None:
    run = read_foreign_run(LOGS[name].log(tmp_path, curves(fault, seed=100)))

    assert verdict(run) == expected(fault, name)
    assert run.trainer.name == LOGS[name].trainer


def test_published_verdicts_are_those_of_every_log_and_fault() -> None:
    results = json.loads(RESULTS.read_text(encoding="utf-8"))

    assert list(results) == list(LOGS)
    for name, faults in results.items():
        assert list(faults) == list(FAULTS)
        for fault, entry in faults.items():
            assert entry["expected"] == expected(fault, name)
            assert entry["right"] >= 0.9 * entry["logs"]


def test_the_remedy_is_in_the_words_of_the_trainer(tmp_path: Path) -> None:
    changes = {}
    for name in ("verl, console", "prime-rl, metrics.jsonl"):
        path = LOGS[name].log(tmp_path / name[:4], curves("large updates", seed=1))
        diagnosis = read_foreign_run(path).diagnose()
        assert diagnosis.status is Status.COLLAPSED
        assert diagnosis.cause is not None
        changes[name] = diagnosis.cause.change

    assert f"actor_rollout_ref.actor.optim.lr (now 1e{MINUS}6)" in changes["verl, console"]
    assert f"trainer.optim.lr (now 1e{MINUS}6)" in changes["prime-rl, metrics.jsonl"]


def test_what_is_missing_is_said_with_the_setting_that_logs_it(tmp_path: Path) -> None:
    values = curves("large updates", seed=1)
    run = read_foreign_run(LOGS["TRL, trainer_state.json"].log(tmp_path, values))
    text = run.to_text()

    assert "cause: unknown, as its signs were not logged" in text
    assert (
        "The log lacks Staleness KL (k3) before that, so updates that are too large cannot" in text
    )
    assert "Missing: Staleness KL (k3). GRPOTrainer does not log it" in text
    assert "Approximate: Mismatch KL (k3); it is half the square" in text
    assert "Known: Training reward (reward)" in text
    assert "from trainer_state.json" in text


def test_staleness_has_its_limit_where_updates_are_told(tmp_path: Path) -> None:
    values = curves("none", seed=2) | {"staleness_kl_k3": [0.9] * 30}
    path = LOGS["verl, console"].log(tmp_path, values)
    silent, told = read_foreign_run(path), read_foreign_run(path, updates_per_rollout=2)

    assert silent.diagnose().status is Status.HEALTHY
    assert "Give --updates-per-rollout" in silent.to_text()
    assert told.diagnose().status is Status.ABOUT_TO_COLLAPSE
    assert "--updates-per-rollout" not in told.to_text()


def test_slime_tells_its_updates_itself(tmp_path: Path) -> None:
    run = read_foreign_run(LOGS["slime, console"].log(tmp_path, curves("none", seed=0)))

    assert run.settings.mini_batches == 2
    assert "--updates-per-rollout" not in run.to_text()


def test_values_that_are_not_finite_are_told_and_harm_nothing(tmp_path: Path) -> None:
    run = read_foreign_run(LOGS["verl, file logger"].log(tmp_path, curves("diverged", seed=3)))

    assert "Gradient norm: not finite at 15 of 30 steps, the first being step 16." in run.to_text()


def test_few_rows_are_too_few_however_large_their_steps(tmp_path: Path) -> None:
    history = [
        {"step": step, "reward": 0.5, "frac_reward_zero_std": 0.2, "reward_std": 0.3}
        for step in (100, 200, 300)
    ]
    path = tmp_path / "trainer_state.json"
    path.write_text(json.dumps({"log_history": history}))

    assert read_foreign_run(path).diagnose().status is Status.TOO_SHORT


def test_a_plain_table_is_read_by_its_map(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    lines = [f"{it},{0.5 if it < 8 else 0.0},1.5" for it in range(1, 15)]
    path.write_text("\n".join(["it,mean_return,H", *lines]))
    run = read_foreign_run(path, columns=["reward=mean_return,entropy=H", "step=it"])
    diagnosis = run.diagnose()

    assert diagnosis.status is Status.COLLAPSED
    assert diagnosis.cause is not None
    assert diagnosis.cause.name is CauseName.UNRECORDED
    assert run.known == {"reward": "mean_return", "entropy": "H"}


@pytest.mark.parametrize(
    ("lines", "known", "values"),
    [
        (
            [VERL],
            {"reward": "critic/score/mean", "staleness_kl_k3": "actor/ppo_kl"},
            {"reward": -0.0182796623557806, "staleness_kl_k3": 8.163164312320433e-06},
        ),
        (
            [VERL_WITH_SCORES],
            {"score": "val-core/omni-math/acc/mean@1 and 2 more"},
            {"score": (0.16129032258064516 + 0.706 + 0.33037037037037037) / 3},
        ),
        (
            SLIME,
            {"gradient_norm": "train/grad_norm", "truncated_fraction": "rollout/truncated_ratio"},
            {"gradient_norm": 2955012562.8240876, "mismatch_kl_k3": 0.030350876972079277**2 / 2},
        ),
        (PRIME_ORCHESTRATOR, {"reward": "Reward"}, {"reward": 0.3887}),
        (
            PRIME_TRAINER,
            {"mismatch_kl_k3": "Mismatch KL", "gradient_norm": "Grad. Norm", "reward": "Reward"},
            {"mismatch_kl_k3": 0.0013, "reward": 0.5312, "truncated_fraction": 0.125},
        ),
        (
            NEMO_RL,
            {"mismatch_kl_k3": "Training Results/Generation KL Error"},
            {"mismatch_kl_k3": 0.0007, "reward": 0.4375, "response_length": 512.25},
        ),
        (
            TRL_OF_2025,
            {"response_length": "completion_length"},
            {"reward": 0.896511122584343, "gradient_norm": 0.9503731084601761},
        ),
        (
            TRL_NOTEBOOK,
            {"response_length": "completions/mean_length", "loss": "Training Loss"},
            {"reward": 6.931818, "response_length": 1202.5},
        ),
    ],
)
def test_lines_that_people_published_are_read(
    lines: Sequence[str], known: dict[str, str], values: dict[str, float], tmp_path: Path
) -> None:
    run = read_foreign_run(written(tmp_path, *lines))
    (stage,) = run.stages

    assert known.items() <= run.known.items()
    for metric, value in values.items():
        assert stage.metrics[metric].values[-1] == pytest.approx(value)


def test_a_log_without_a_metric_to_diagnose_names_what_to_switch_on(tmp_path: Path) -> None:
    path = written(tmp_path, "step:1 - timing_s/step:3.5 - global_seqlen/mean:100")

    with pytest.raises(UserError, match="without any metric that a diagnosis uses") as refused:
        read_foreign_run(path)
    assert "trainer.logger=['console','file']" in str(refused.value)


def test_json_holds_all_of_it(tmp_path: Path) -> None:
    run = read_foreign_run(LOGS["miles, console"].log(tmp_path, curves("discrepancy", seed=4)))
    values = json.loads(json.dumps(run.to_values()))

    assert (values["trainer"], values["status"]) == ("miles", "collapsed")
    assert values["known"]["mismatch_kl_k3"] == "train/train_rollout_kl"
    assert "mismatch_kl_k3" not in values["approximate"]
    assert values["cause"]["name"] == "training-inference discrepancy"
