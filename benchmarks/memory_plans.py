"""The planned peak of memory against the measured one, for runs of one step.

    python benchmarks/memory_plans.py models/smollm2 --out benchmarks/results/memory_plans.json

Each run has a process of its own. Its peak is that of the resident memory (on CUDA: of allocated
memory) less what the process held before the model was loaded.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

from steadyrl.algorithms.policy_gradient import PolicyGradientSettings
from steadyrl.base.memory import PeakMemory
from steadyrl.base.settings import Settings
from steadyrl.cli.option_names import Positional
from steadyrl.cli.options import script_options
from steadyrl.engines.protocol import Sampling
from steadyrl.evaluation.accuracy import EvaluationSettings
from steadyrl.policies.loading import load_tokenizer
from steadyrl.policies.model_settings import Pretrained, SmallDense
from steadyrl.recipes.arithmetic import arithmetic_demo
from steadyrl.recipes.smollm2 import smollm2
from steadyrl.records.run_folder import write_atomically
from steadyrl.run.config import RunConfig
from steadyrl.run.devices import learner_device
from steadyrl.run.execution import start_run
from steadyrl.run.manifest import manifest
from steadyrl.run.memory_plan import RunSizes, plan_memory


class Options(Settings):
    """Measure the peak memory of small runs."""

    checkpoint: Annotated[Path, Positional()] = Path("models/smollm2")
    """A checkpoint of SmolLM2-135M-Instruct."""

    only: str | None = None
    """Measure this run in this process, and print it as JSON."""

    out: Path | None = None
    """Where to write the numbers as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """A planned and a measured peak, in bytes."""

    run: str
    planned: int
    measured: int

    @property
    def error(self) -> float:
        """Error of the plan, as a share of what was measured."""
        return self.planned / self.measured - 1


def configurations(checkpoint: Path) -> dict[str, RunConfig]:
    """The runs, by name."""
    one_step: dict[str, Any] = {
        "steps": 1,
        "evaluation": EvaluationSettings(tasks=4, samples=1, drift="never"),
        "cold_start": None,
    }
    real = smollm2().model_dump() | one_step | {"model": Pretrained(path=str(checkpoint))}
    wide = SmallDense(layers=8, width=512, heads=8, kv_heads=8, head_dim=64, mlp_width=2048)
    small = arithmetic_demo().model_dump() | one_step
    small |= {
        "threads": 1,
        "model": wide,
        "routing_replay": "none",
        "algorithm": PolicyGradientSettings(prompts=32, group_size=8),
        "sampling": Sampling(max_new_tokens=32),
    }
    every_row = {"name": "local", "skip_no_signal": False}  # the plan is for rows with signal
    small["learner"] = every_row
    learners = {
        "SmolLM2, float32": {},
        "SmolLM2, bfloat16": {"dtype": "bfloat16"},
        "SmolLM2, float32, activation checkpointing": {"activation_checkpointing": True},
    }
    return {
        "34M dense, float32": RunConfig.model_validate(small),
        **{
            name: RunConfig.model_validate(real | {"learner": every_row | learner})
            for name, learner in learners.items()
        },
    }


def measured(name: str, config: RunConfig) -> Peak:
    """The peak of one run in this process."""
    # A prompt of basic_arithmetic has about 60 tokens, a chain of arithmetic about 10.
    prompt = 60 if isinstance(config.model, Pretrained) else 12
    plan = plan_memory(config, RunSizes.of(config, load_tokenizer(config.model), prompt=prompt))
    peak = PeakMemory(learner_device(config))
    with TemporaryDirectory() as folder:
        start_run(config, Path(folder) / "run")
        return Peak(run=name, planned=plan.peak, measured=peak.bytes)


def in_process(name: str, options: Options) -> Peak:
    """The same in a process of its own."""
    command = [sys.executable, __file__, str(options.checkpoint), "--only", name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Peak(**json.loads(done.stdout.splitlines()[-1]))


def main(options: Options) -> None:
    """Prints a row for each run."""
    runs = configurations(options.checkpoint)
    if options.only is not None:
        peak = measured(options.only, runs[options.only])
        print(json.dumps({"run": peak.run, "planned": peak.planned, "measured": peak.measured}))
        return
    print("| run | planned, GB | measured, GB | error |\n|---|---|---|---|")
    found = []
    for name in runs:
        peak = in_process(name, options)
        found.append({"run": name, "planned": peak.planned, "measured": peak.measured})
        numbers = f"{peak.planned / 1e9:.2f} | {peak.measured / 1e9:.2f} | {peak.error:+.0%}"
        print(f"| {name} | {numbers} |", flush=True)
    if options.out is not None:
        write_atomically(options.out, json.dumps({**manifest(0), "runs": found}, indent=1) + "\n")


if __name__ == "__main__":
    main(script_options(Options))
