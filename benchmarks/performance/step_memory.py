"""A process that takes one step of W5 and prints the largest resident size in bytes.

python -m benchmarks.performance.step_memory {ours,trl} {float32,bfloat16}
"""

import argparse
import resource
from pathlib import Path

import torch
from benchmarks.performance.context import Context
from benchmarks.performance.groups.step import SWEEPS, OurStep
from benchmarks.performance.smollm2_world import DTYPES, w5
from benchmarks.performance.worlds import World

from steadyrl.learners.optimizer import OptimizerSettings


def main() -> None:
    """Measures one kind."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.performance.step_memory")
    options.add_argument("who", choices=("ours", "trl"))
    options.add_argument("dtype", choices=tuple(DTYPES))
    options.add_argument("--work", type=Path, default=Path("runs/performance"))
    options.add_argument("--quick", action="store_true")
    read = options.parse_args()
    torch.set_num_threads(1)
    context = Context(
        device=torch.device("cpu"), work=read.work, vllm_python=Path("none"), quick=read.quick
    )
    world = w5(read.dtype, context)
    {"ours": ours, "trl": trl}[read.who](world, read.work / "trl")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def ours(world: World, _folder: Path) -> None:
    """Our step."""
    OurStep(world, OptimizerSettings(learning_rate=world.learning_rate), steps=1)()


def trl(world: World, folder: Path) -> None:
    """TRL's, at the smallest micro-batch of its sweep."""
    from benchmarks.performance.peers.trl_grpo import Choice, trainer_for

    smallest = min(size for size, _ in SWEEPS[world.name])
    trainer_for(
        world,
        Choice(micro_batch=min(smallest, world.prompts * world.group_size), continuous=False),
        steps=1,
        optimizer=OptimizerSettings(learning_rate=world.learning_rate),
        callbacks=[],
        folder=folder,
    ).train()


if __name__ == "__main__":
    main()
