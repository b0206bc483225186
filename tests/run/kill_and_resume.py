"""Runs one configuration undisturbed, and again while it is killed and resumed; prints JSON.

    python -m tests.run.kill_and_resume CONFIGURATION FOLDER KILLS SEED

Writes FOLDER/undisturbed and FOLDER/killed-0, killed-1, ... Each process is killed a little after a
random row of its metrics; a run that has ended by then is followed by another. The last kills hit
while a checkpoint is written. Every process is forked from this one, which has imported everything
and computed nothing: a fork costs milliseconds, an import seconds.
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
from steadyrl.engines.local import LocalEngineSettings
from steadyrl.learners.local import LocalLearnerSettings
from steadyrl.objectives import ReferenceKL
from steadyrl.policies.lora import LoraSettings
from steadyrl.policies.numerics import Numerics
from steadyrl.run.config import RunConfig
from steadyrl.run.execution import resume_run, start_run
from tests.run.tiny import tiny_experiential_run, tiny_run

KILLS_WHILE_WRITING = 2
LONGEST_DELAY = 0.05
"""Seconds between a row of metrics and a kill, at most."""

CONFIGURATIONS = {
    "reference_kl": tiny_run(
        algorithm=PolicyGradientSettings(
            prompts=4, group_size=4, mini_batches=2, reference_kl=ReferenceKL(coefficient=0.1)
        )
    ),
    "overlap": tiny_run(engine=LocalEngineSettings(numerics=Numerics.FP8, overlap=True)),
    "continuous": tiny_run(
        engine=LocalEngineSettings(
            numerics=Numerics.FP8, overlap=True, in_flight="continue", max_staleness=2
        )
    ),
    "experiential": tiny_experiential_run(),
    "lora": tiny_run(
        learner=LocalLearnerSettings(lora=LoraSettings(rank=4, experts=True)),
        algorithm=PolicyGradientSettings(
            prompts=4, group_size=4, mini_batches=2, reference_kl=ReferenceKL(coefficient=0.1)
        ),
    ),
}

Kill = Callable[[Path, float], bool]
"""Whether a process that runs in a folder for some seconds is to be killed now."""


def main(config: RunConfig, folder: Path, kills: int, seed: int) -> dict[str, object]:
    """What each kill left."""
    assert not run_until(config, folder / "undisturbed", lambda _path, _seconds: False)
    total = rows(folder / "undisturbed")
    generator = random.Random(seed)
    targets = [total * number // kills for number in range(kills)]
    generator.shuffle(targets)
    run = 0
    landed: list[dict[str, Any]] = []
    while len(landed) < kills + KILLS_WHILE_WRITING:
        path = folder / f"killed-{run}"
        kill: Kill = while_writing
        if len(landed) < kills:
            target = max(rows(path) + 1, targets[len(landed)])
            kill = after_rows(target, generator.uniform(0, LONGEST_DELAY))
        if run_until(config, path, kill):
            left = state(path)
            if kill is not while_writing or any(".draft" in name for name in left["checkpoints"]):
                landed.append(left)
        else:
            run += 1
    last = folder / f"killed-{run}"
    if last.exists():
        assert not run_until(config, last, lambda _path, _seconds: False)
    return {"kills": landed}


def rows(path: Path) -> int:
    """Rows of metrics that a run has written."""
    metrics = path / "metrics.jsonl"
    return len(metrics.read_text().splitlines()) if metrics.exists() else 0


def after_rows(target: int, delay: float) -> Kill:
    """`delay` seconds after the run has written `target` rows."""
    reached: list[float] = []

    def kill(path: Path, seconds: float) -> bool:
        if not reached and rows(path) >= target:
            reached.append(seconds)
        return bool(reached) and seconds >= reached[0] + delay

    return kill


def while_writing(path: Path, _seconds: float) -> bool:
    """While a checkpoint of reinforcement is being written."""
    drafts = (path / "checkpoints").glob(".rl-*.draft")
    return any(any(draft.glob("*model.safetensors")) for draft in drafts)


def run_until(config: RunConfig, path: Path, kill: Kill) -> bool:
    """Starts or resumes the run in `path`; whether `kill` killed it before its end."""
    child = os.fork()
    if child == 0:
        work(config, path)
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


def work(config: RunConfig, path: Path) -> None:
    """What a process does: start the run, or go on with it."""
    code = 1
    try:
        if (path / "config.yaml").exists():
            resume_run(path)
        else:
            start_run(config, path)
        code = 0
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(code)


def state(path: Path) -> dict[str, Any]:
    """What a kill left."""
    checkpoints = path / "checkpoints"
    return {
        "run": path.name,
        "rows": rows(path),
        "checkpoints": sorted(p.name for p in checkpoints.glob("*")),
    }


if __name__ == "__main__":
    name, folder, kills, seed = sys.argv[1:]
    print(json.dumps(main(CONFIGURATIONS[name], Path(folder), int(kills), int(seed))))
