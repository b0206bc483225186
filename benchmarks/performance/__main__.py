"""The command: measures groups of rows, each in a process of its own, and draws the tables anew."""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from benchmarks.performance.context import Context, Group
from benchmarks.performance.page import PAGE, redraw
from benchmarks.performance.records import RESULTS, Row, write_group
from benchmarks.performance.registry import GROUPS

from steadyrl.run.manifest import manifest

QUIET = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""One thread for each process, and nothing fetched."""


def main() -> None:
    """Runs what the command line asks for."""
    options = read_options()
    chosen = [
        g
        for g in GROUPS
        if (g.is_named(options.only) if options.only else g.always and g.device == options.device)
    ]
    if options.here:
        (group,) = chosen
        measure(group, options)
        return
    for group in chosen:
        measure_apart(group)
    if not options.quick:
        redraw()
        print(f"tables: docs/{PAGE.name}")


def read_options() -> argparse.Namespace:
    """The command line."""
    names = [group.name for group in GROUPS]
    options = argparse.ArgumentParser(prog="python -m benchmarks.performance")
    options.add_argument("--only", default="", help=f"some of {', '.join(names)}, between commas")
    options.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    options.add_argument("--quick", action="store_true", help="one round, results in --work")
    options.add_argument("--work", type=Path, default=Path("runs/performance"))
    options.add_argument("--vllm", type=Path, default=Path(".venv-vllm/bin/python"))
    options.add_argument("--here", action="store_true", help="one group, in this process")
    read = options.parse_args()
    read.only = [name for name in read.only.split(",") if name]
    unknown = {n for n in read.only if not any(group.is_named([n]) for group in GROUPS)}
    if unknown:
        options.error(f"--only knows no {', '.join(sorted(unknown))}: use {', '.join(names)}")
    return read


def measure_apart(group: Group) -> None:
    """Measures one group in a process of its own, whose failure does not end the others."""
    started = time.perf_counter()
    print(f"\n{group.name}: about {group.minutes:g} minutes", flush=True)
    command = [sys.executable, "-m", "benchmarks.performance", *sys.argv[1:]]
    finished = subprocess.run(
        [*command, "--here", "--only", group.name], env=os.environ | QUIET, check=False
    )
    minutes = (time.perf_counter() - started) / 60
    print(f"{group.name}: status {finished.returncode} after {minutes:.1f} minutes", flush=True)


def measure(group: Group, options: argparse.Namespace) -> None:
    """Measures one group and writes its JSON; the rows so far are written after each."""
    torch.set_num_threads(1)
    results = options.work if options.quick else RESULTS
    options.work.mkdir(parents=True, exist_ok=True)
    context = Context(
        device=torch.device(options.device),
        work=options.work,
        vllm_python=options.vllm,
        quick=options.quick,
    )
    about = {**manifest(0), "device": options.device, "threads": 1}
    started, rows = time.perf_counter(), []
    for row in _told(group.rows(context)):
        rows.append(row)
        seconds = round(time.perf_counter() - started, 1)
        write_group(group.name, rows, about | {"seconds": seconds}, results)


def _told(rows: Iterator[Row]) -> Iterator[Row]:
    """`rows`, each printed as it comes."""
    for row in rows:
        value, note = row.measured.value, row.measured.note
        median = "not measured" if value is None else f"{value.median:.3g} {row.measured.unit}"
        print(f"  {row.what}: {median}{f' ({note})' if note else ''}", flush=True)
        yield row


if __name__ == "__main__":
    main()
