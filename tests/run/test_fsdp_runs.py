"""Whole runs with a sharded learner: as with one process, resumed, evaluated, ended in time."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any

import psutil
import pytest

from steadyrl.cli.main import main
from steadyrl.engines.local import LocalEngineSettings
from steadyrl.learners.fsdp.settings import FsdpLearnerSettings
from steadyrl.learners.local import LocalLearnerSettings
from steadyrl.learners.settings import LearnerSettings
from steadyrl.policies.numerics import Numerics
from steadyrl.records.run_folder import RunFolder
from steadyrl.run.config import RunConfig, to_yaml
from steadyrl.run.execution import resume_run, start_run
from steadyrl.training.checkpoint import latest_checkpoint, read_waiting
from tests.learners.fsdp.groups import flat
from tests.run.metric_rows import assert_rows_close
from tests.run.test_execution import StopAfter
from tests.run.test_overlap import tasks_of
from tests.run.tiny import tiny_run

pytestmark = [pytest.mark.scale, pytest.mark.timeout(300)]

SHARDED = FsdpLearnerSettings(ranks=2)


def small_run(learner: LearnerSettings, **changes: Any) -> RunConfig:
    engine = LocalEngineSettings(numerics=Numerics.FLOAT32)
    return tiny_run(**{"learner": learner, "engine": engine, **changes})


def metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of a run without times."""
    return [
        flat({name: value for name, value in row.items() if "second" not in name})
        for row in RunFolder(path).read_metrics()
    ]


def test_a_run_is_that_of_one_process_and_goes_on_with_other_ranks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = {"prompts": 4, "group_size": 4, "mini_batches": 2, "reference_kl": {"coefficient": 0.1}}
    start_run(small_run(LocalLearnerSettings(), algorithm=held), tmp_path / "local")
    start_run(small_run(SHARDED, algorithm=held, steps=4), tmp_path / "fsdp")
    alone = FsdpLearnerSettings(ranks=1)
    resume_run(tmp_path / "fsdp", config=small_run(alone, algorithm=held, steps=6))
    found, expected = metrics(tmp_path / "fsdp"), metrics(tmp_path / "local")
    assert len(found) == len(expected) == 13
    for ours, theirs in zip(found[:11], expected[:11], strict=True):
        for name in ("temperature_share", "surprisal_gap_z"):  # of a mismatch that is rounding
            theirs.pop(name, None)
        # The last step of a shorter run is evaluated, too.
        ours = {name: ours[name] for name in theirs}
        assert_rows_close(ours, theirs)
    assert found[-1]["step"] == 6

    path = str(tmp_path / "fsdp")
    assert main(["evaluate", path, "--tasks", "2", "--samples", "1"]) == 0
    assert "(rl-000006), 2 test tasks: avg@1" in capsys.readouterr().out
    assert main(["push", path, "--to", "me/model", "--dry-run"]) == 2
    assert "steadyrl consolidate" in capsys.readouterr().err
    assert main(["consolidate", path, "--out", str(tmp_path / "whole")]) == 0
    assert (tmp_path / "whole" / "model.safetensors").is_file()


def test_checkpoints_in_the_background_hold_the_rollouts_of_their_weights(tmp_path: Path) -> None:
    engine = LocalEngineSettings(
        numerics=Numerics.FLOAT32, overlap=True, in_flight="continue", max_staleness=1
    )
    learner = FsdpLearnerSettings(ranks=2, background_saves=True)
    config = small_run(learner, engine=engine)  # a checkpoint every two steps
    with pytest.raises(KeyboardInterrupt):
        start_run(config, tmp_path / "run", [StopAfter("rl", 5)])
    last = latest_checkpoint(RunFolder(tmp_path / "run"))
    assert last is not None
    waiting = read_waiting(last)
    assert waiting is not None
    assert waiting.schedule["step"] == int(last.name[-6:])  # cursor and weights of one moment
    resume_run(tmp_path / "run")

    start_run(small_run(LocalLearnerSettings()), tmp_path / "plain")
    assert tasks_of(tmp_path / "run") == tasks_of(tmp_path / "plain")
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))
    final = latest_checkpoint(RunFolder(tmp_path / "run"))
    assert final is not None
    assert final.name == "rl-000006"


@contextmanager
def started(tmp_path: Path) -> Iterator[tuple["subprocess.Popen[str]", list[psutil.Process]]]:
    """A run by the command line, and its ranks once they have begun to learn."""
    config = tmp_path / "config.yaml"
    config.write_text(to_yaml(small_run(SHARDED, steps=1000)), encoding="utf-8")
    program = "import sys; from steadyrl.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "train", str(config), "--out", str(tmp_path / "run")]
    rows = tmp_path / "run" / "metrics.jsonl"
    with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True) as run:
        try:
            while run.poll() is None and not (rows.exists() and rows.stat().st_size):
                time.sleep(0.2)
            assert run.poll() is None, run.communicate()[1]
            children = psutil.Process(run.pid).children()
            ranks = [child for child in children if "fsdp" in cmdline(child)]
            assert len(ranks) == 2
            yield run, ranks
        finally:
            run.kill()


def cmdline(process: psutil.Process) -> str:
    return " ".join(process.cmdline())


def gone(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=30)[1]


def test_a_rank_that_dies_ends_the_run_with_a_sentence(tmp_path: Path) -> None:
    with started(tmp_path) as (run, ranks):
        os.kill(ranks[1].pid, signal.SIGKILL)
        _, errors = run.communicate(timeout=120)
        assert run.returncode == 2
        assert "Rank 1 of the learner ended (exit status -9)" in errors
        assert "Traceback" not in errors
        assert gone(ranks)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_ranks_end_with_the_run(tmp_path: Path, number: signal.Signals) -> None:
    with started(tmp_path) as (run, ranks):
        os.kill(run.pid, number)
        run.communicate(timeout=120)
        assert gone(ranks)


def test_a_signal_to_all_processes_is_an_interruption(tmp_path: Path) -> None:
    with started(tmp_path) as (run, ranks):
        for rank in ranks:  # as batch systems do
            os.kill(rank.pid, signal.SIGTERM)
        time.sleep(0.5)
        os.kill(run.pid, signal.SIGTERM)
        _, errors = run.communicate(timeout=120)
        assert run.returncode == 128 + signal.SIGTERM
        assert "Resume with: steadyrl train --resume" in errors
        assert gone(ranks)
