"""Where the time of a rollout and of an update goes: the operators that take most of it.

    python -m benchmarks.performance.profile W1
    python -m benchmarks.performance.profile W2 --prompts 4

Shares are of the time that all operators compute, without what they call, by PyTorch's profiler.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from benchmarks.performance.context import Context
from benchmarks.performance.groups.rollout import OurRollout
from benchmarks.performance.groups.update import STRICT, OurUpdate, rollout_batch, with_signal
from benchmarks.performance.workloads import small_and_large
from torch.profiler import ProfilerActivity, profile

SHOWN = 8


def main() -> None:
    """Prints the operators of both."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.performance.profile")
    options.add_argument("workload", choices=("W1", "W2"))
    options.add_argument("--prompts", type=int, default=32, help="at most, of the workload's")
    options.add_argument("--work", type=Path, default=Path("runs/performance"))
    read = options.parse_args()
    torch.set_num_threads(1)
    read.work.mkdir(parents=True, exist_ok=True)
    context = Context(
        device=torch.device("cpu"), work=read.work, vllm_python=Path("none"), quick=False
    )
    worlds = {world.name: world for world in small_and_large(context)}
    world = worlds[read.workload]
    world = replace(world, prompts=min(world.prompts, read.prompts))
    batch = with_signal(rollout_batch(world), every=1)
    for name, work in (
        ("rollout", OurRollout(world, record_routing=True)),
        ("update", partial(OurUpdate(world, STRICT), batch)),
    ):
        work()  # warms up
        print(f"{read.workload}, {name}: {', '.join(shares(work))}")


def shares(work: Callable[[], Any]) -> list[str]:
    """The operators with the largest shares of the time."""
    with profile(activities=[ProfilerActivity.CPU]) as measured:
        work()
    events = sorted(measured.key_averages(), key=lambda e: e.self_cpu_time_total, reverse=True)
    whole = sum(event.self_cpu_time_total for event in events)
    return [
        f"{event.key.removeprefix('aten::')} {event.self_cpu_time_total / whole:.0%}"
        for event in events[:SHOWN]
    ]


if __name__ == "__main__":
    main()
