"""Learning in an environment of OpenEnv's, unmodified: the one that `openenv init` writes.

    make .venv-openenv/openenv.stamp
    .venv-openenv/bin/python benchmarks/openenv_echo.py --out benchmarks/results/openenv_echo.json

The environment repeats a message and rewards its length: 0.1 for each character, at most 1. A small
model with random weights begins with characters at random, most of which are cut off by the
budget of 16 tokens and earn 0. It can earn 1 if it ends its answer after ten characters or more.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2 as httpx

from steadyrl.algorithms import PolicyGradientSettings
from steadyrl.base.settings import Settings
from steadyrl.cli.options import script_options
from steadyrl.engines import LocalEngineSettings, Sampling
from steadyrl.environments.adapters.openenv_client import OpenEnvSettings
from steadyrl.evaluation import EvaluationSettings
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.policies.model_settings import SmallMoE
from steadyrl.policies.numerics import Numerics
from steadyrl.records.run_folder import write_atomically
from steadyrl.run import RunConfig, start_run
from steadyrl.run.manifest import as_json, manifest

BIN = Path(sys.executable).parent


class Options(Settings):
    """Train in the environment that `openenv init` writes."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the runs."""

    steps: int = 30
    """Steps of a run."""

    out: Path | None = None
    """Where to write the numbers as JSON."""


@contextmanager
def echo_server(folder: Path) -> Iterator[str]:
    """URL of the environment, written and served by OpenEnv."""
    paths = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    init = [str(BIN / "openenv"), "init", "echo_probe"]
    subprocess.run(init, cwd=folder, check=True, capture_output=True, env=paths)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "server.app:app", "--port", str(port)]
    command += ["--log-level", "error"]
    process = subprocess.Popen(command, cwd=folder / "echo_probe")
    url = f"http://127.0.0.1:{port}"
    try:
        while not _is_up(url):
            if process.poll() is not None:
                raise RuntimeError(f"The server has ended with status {process.returncode}.")
            time.sleep(0.2)
        yield url
    finally:
        process.kill()
        process.wait(30)


def _is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def configuration(url: str, seed: int, steps: int) -> RunConfig:
    """The run."""
    return RunConfig(
        seed=seed,
        threads=1,
        model=SmallMoE(layers=2, width=32, heads=2, kv_heads=1, expert_width=16, max_positions=128),
        environment=OpenEnvSettings(url=url, turns=1),
        algorithm=PolicyGradientSettings(prompts=8, group_size=8),
        steps=steps,
        sampling=Sampling(max_new_tokens=16),
        engine=LocalEngineSettings(numerics=Numerics.FLOAT32),
        optimizer=OptimizerSettings(learning_rate=3e-3),
        evaluation=EvaluationSettings(tasks=64, samples=1),
        evaluate_every=10,
    )


def measure(url: str, seed: int, options: Options, folder: Path) -> dict[str, object]:
    """Held-out scores of a run, by step, and its seconds."""
    began, spent = time.monotonic(), time.process_time()
    run = start_run(configuration(url, seed, options.steps), folder)
    rows = [row for row in run.read_metrics() if row.get("stage") == "rl"]
    failed = [row["environment_failed_fraction"] for row in rows if row["step"]]
    return {
        "seed": seed,
        "held_out": {row["step"]: row["score"] for row in rows if "score" in row},
        "failed_fraction": max(failed, default=0.0),
        "seconds": round(time.monotonic() - began, 1),
        "processor_seconds": round(time.process_time() - spent, 1),
    }


def main(options: Options) -> None:
    """Prints the numbers and writes them, after each seed."""
    found: dict[str, object] = {**manifest(0), "options": options.model_dump(mode="json")}
    runs: list[dict[str, object]] = []
    with TemporaryDirectory() as name, echo_server(Path(name)) as url:
        for seed in options.seeds:
            runs.append(measure(url, seed, options, Path(name) / f"run-{seed}"))
            print(as_json(runs[-1]))
            if options.out is not None:
                write_atomically(options.out, as_json({**found, "runs": runs}))


if __name__ == "__main__":
    main(script_options(Options))
