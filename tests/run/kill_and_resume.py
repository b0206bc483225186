"""Runs one configuration undisturbed, and again while it is killed and resumed; prints JSON.

    python -m tests.run.kill_and_resume FOLDER KILLS SEED

Writes FOLDER/undisturbed and FOLDER/killed-0, killed-1, ... Each process is killed at a random
moment between its start and the duration of the undisturbed run; a run that has ended by then is
followed by another. The last kills hit while a checkpoint is written. Every process is forked from
this one, which has imported everything and computed nothing: a fork costs milliseconds, an import
seconds.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from steadyrl.algorithms.policy_gradient import PolicyGradientSettings
from steadyrl.objectives import ReferenceKL
from steadyrl.run.execution import resume_run, start_run
from tests.run.tiny import tiny_run

KILLS_WHILE_WRITING = 2

RUN = tiny_run(
    algorithm=PolicyGradientSettings(
        prompts=4, group_size=4, mini_batches=2, reference_kl=ReferenceKL(coefficient=0.1)
    )
)

Kill = Callable[[Path, float], bool]
"""Whether a process that runs in a folder for some seconds is to be killed now."""


def main(folder: Path, kills: int, seed: int) -> dict[str, object]:
    """What was killed when, and how many runs it took."""
    started = time.monotonic()
    assert not run_until(folder / "undisturbed", lambda _path, _seconds: False)
    duration = time.monotonic() - started
    generator = random.Random(seed)
    run, landed = 0, []
    moments = [duration * (part + generator.random()) / kills for part in range(kills)]
    generator.shuffle(moments)
    while len(landed) < kills + KILLS_WHILE_WRITING:
        path = folder / f"killed-{run}"
        writing = len(landed) >= kills
        at = moments[len(landed)] if not writing else 0.0
        kill = while_writing if writing else lambda _path, seconds, at=at: seconds >= at
        if run_until(path, kill):
            left = state(path)
            if not writing or any(".draft" in name for name in left["checkpoints"]):
                landed.append(left)
        else:
            run += 1
            if not writing:
                moments[len(landed)] = generator.uniform(0, duration)
    last = folder / f"killed-{run}"
    if last.exists():
        assert not run_until(last, lambda _path, _seconds: False)
    return {"duration": duration, "kills": landed}


def while_writing(path: Path, _seconds: float) -> bool:
    """While a checkpoint of reinforcement is being written."""
    drafts = (path / "checkpoints").glob(".rl-*.draft")
    return any((draft / "model.safetensors").exists() for draft in drafts)


def run_until(path: Path, kill: Kill) -> bool:
    """Starts or resumes the run in `path`; whether `kill` killed it before its end."""
    child = os.fork()
    if child == 0:
        work(path)
    started = time.monotonic()
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            assert status == 0, f"the run in {path} failed"
            return False
        if kill(path, time.monotonic() - started):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return True
        time.sleep(0.0005)


def work(path: Path) -> None:
    """What a process does: start the run, or go on with it."""
    code = 1
    try:
        if (path / "config.yaml").exists():
            resume_run(path)
        else:
            start_run(RUN, path)
        code = 0
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(code)


def state(path: Path) -> dict[str, Any]:
    """What a kill left."""
    metrics = path / "metrics.jsonl"
    checkpoints = path / "checkpoints"
    return {
        "run": path.name,
        "rows": len(metrics.read_text().splitlines()) if metrics.exists() else 0,
        "checkpoints": sorted(p.name for p in checkpoints.glob("*")),
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
