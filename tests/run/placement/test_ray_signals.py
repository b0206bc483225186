"""Signals to all processes of a run on a local Ray cluster, as batch systems send them."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE

import psutil
import pytest

from steadyrl.learners.fsdp.settings import FsdpLearnerSettings
from steadyrl.run.config import to_yaml
from steadyrl.run.placement.settings import RayPlacement
from tests.run.tiny import tiny_run

pytest.importorskip("ray")
pytestmark = [pytest.mark.scale, pytest.mark.timeout(600)]

PROGRAM = "import sys; from steadyrl.cli.main import main; sys.exit(main(sys.argv[1:]))"


@contextmanager
def driver(tmp_path: Path, has_come: Callable[[psutil.Process], bool]) -> Iterator[psutil.Popen]:
    """A run by the command line, from the moment at which `has_come` says so."""
    placement = RayPlacement(address="local:2", engines=1)
    config = tiny_run(steps=1000, placement=placement, learner=FsdpLearnerSettings(ranks=1))
    (tmp_path / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    words = ["train", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "run")]
    with psutil.Popen([sys.executable, "-c", PROGRAM, *words], stderr=PIPE, text=True) as run:
        try:
            while run.poll() is None and not has_come(run):
                time.sleep(0.05)
            assert run.poll() is None, run.communicate()[1]
            yield run
        finally:
            if run.poll() is None:
                run.kill()


def assert_interrupted(run: psutil.Popen, hint: str) -> None:
    """A SIGTERM to all of its processes ends the run with `hint`, and nothing else stays."""
    others = run.children(recursive=True)
    for process in (*others, run):
        try:
            process.terminate()
        except psutil.NoSuchProcess:
            continue
    _, errors = run.communicate(timeout=50)  # Ray waits for a dead head node for 60 seconds
    assert run.returncode == 128 + signal.SIGTERM, errors
    assert hint in errors
    assert not psutil.wait_procs(others, timeout=30)[1]


def test_a_run_that_learns_says_how_it_is_resumed(tmp_path: Path) -> None:
    rows = tmp_path / "run" / "metrics.jsonl"
    with driver(tmp_path, lambda _: rows.exists() and rows.stat().st_size > 0) as run:
        assert_interrupted(run, "Resume with: steadyrl train --resume")


def test_a_run_whose_cluster_starts_says_how_it_is_started_again(tmp_path: Path) -> None:
    def starts(run: psutil.Process) -> bool:
        return any(child.name() == "raylet" for child in run.children())

    with driver(tmp_path, starts) as run:
        assert_interrupted(run, "Interrupted. Run it again with: steadyrl train")


LOSE_AND_CLOSE = """
import psutil
from steadyrl.run.placement.cluster import RayCluster
cluster = RayCluster("local:2", timeout=60.0)
cluster.reserve([{"CPU": 1.0, "GPU": 0.0}])
for process in psutil.Process().children():
    process.kill()
cluster.close()
print("closed")
"""


def test_a_cluster_that_has_died_can_be_closed() -> None:
    command = [sys.executable, "-c", LOSE_AND_CLOSE]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith("closed\n")
