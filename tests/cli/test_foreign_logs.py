"""`diagnose` and `report` on logs of other trainers: what is printed, written and refused."""

import shutil
from pathlib import Path

import pytest
from benchmarks.foreign_log_writers import LOGS, curves

from steadyrl.cli.main import main

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "logs" / "verl_discrepancy.log"


def test_the_example_is_what_its_writer_writes(tmp_path: Path) -> None:
    written = LOGS["verl, console"].log(tmp_path, curves("discrepancy", seed=0))

    assert EXAMPLE.read_text("utf-8") == written.read_text("utf-8")


def test_the_example_is_diagnosed_as_the_documents_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", str(EXAMPLE)]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "verl_discrepancy.log: collapsed at step 21, 30 steps read",
        "cause: training-inference discrepancy",
    ]
    assert "algorithm.rollout_correction.rollout_is=token" in lines[3]


def test_a_report_of_a_log_shows_its_curves_and_what_they_are_from(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    shutil.copy(EXAMPLE, log)
    assert main(["report", str(log), "--figure", str(tmp_path / "figure.svg")]) == 0

    page = (tmp_path / "train.log.report.html").read_text("utf-8")
    assert "not recorded in this run" not in page
    assert "Answers before and after" not in page
    assert "Diagnosis: collapsed at step 21." in page
    assert "algorithm.rollout_correction.rollout_is=token" in page
    assert "Mismatch KL (k3) (rollout_corr/k3_kl)" in page
    assert 'aria-label="Training reward over 30 points' in page
    assert "config.yaml" not in page
    assert (tmp_path / "figure.svg").exists()


def test_the_report_of_a_folder_is_in_it(tmp_path: Path) -> None:
    LOGS["prime-rl, metrics.jsonl"].log(tmp_path, curves("none", seed=0))
    assert main(["report", str(tmp_path)]) == 0

    assert "Read as a log of prime-rl" in (tmp_path / "report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.log"], "missing.log does not exist"),
        ([str(EXAMPLE), "--columns", "reward=R"], "The log has no column 'R'"),
        ([str(EXAMPLE), "--format", "tensorflow"], "format: got 'tensorflow'"),
        ([str(EXAMPLE), "--format", "trl"], "is a log of TRL without any metric"),
        ([str(EXAMPLE), "--updates-per-rollout", "0"], "updates_per_rollout: got 0"),
    ],
)
@pytest.mark.parametrize("command", ["diagnose", "report"])
def test_what_cannot_be_read_is_said_with_exit_code_2(
    command: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, *arguments]) == 2
    assert message in capsys.readouterr().err
