"""W4: memory of scoring 8,192 response tokens under a vocabulary of 151,936, forward and backward.

Each figure is the largest resident size of a process of its own, less that of a process that does
the same without the output head.
"""

import subprocess
import sys
from collections.abc import Iterator
from functools import cache, partial

import psutil
from benchmarks.performance.context import Context
from benchmarks.performance.memory_probe import VOCABULARY
from benchmarks.performance.records import Measured, Row, attempt, exact

TOKENS = 8192
FEW_TOKENS = 1024
"""Measured first: it tells whether the machine can hold the whole."""

SHARE_OF_MEMORY = 0.7
"""Of what is free; more is not asked for."""

BYTES = 4


def rows(context: Context) -> Iterator[Row]:
    """Ours, and TRL's beside it."""
    for who, key in (("ours", "memory-w4"), ("trl", "memory-w4-trl")):
        name = "ours" if who == "ours" else "TRL's"
        what = f"W4, peak memory of the loss beyond the trunk, {name}"
        yield attempt(key, what, partial(measure, who))


def measure(who: str) -> Measured:
    """The peak in blocks of (T, V) float32, at as many tokens as memory allows."""
    few = beyond_trunk(who, FEW_TOKENS)
    expected = few * TOKENS / FEW_TOKENS
    free = psutil.virtual_memory().available
    tokens = TOKENS if expected < SHARE_OF_MEMORY * free else FEW_TOKENS
    extra = few if tokens == FEW_TOKENS else beyond_trunk(who, tokens)
    block = tokens * VOCABULARY * BYTES
    return Measured(
        value=exact(extra / block),
        unit=f"of one (T, V) float32 block, T = {tokens}",
        details={"bytes": extra, "block_bytes": block, "tokens": tokens},
        note=""
        if tokens == TOKENS
        else f"at {TOKENS} tokens it would take {expected / 2**30:.0f} GiB, and "
        f"{free / 2**30:.0f} GiB are free",
    )


def beyond_trunk(who: str, tokens: int) -> int:
    """Bytes that the loss of `tokens` response tokens takes beyond the trunk's."""
    return peak(who, tokens) - peak("trunk", tokens)


@cache
def peak(kind: str, tokens: int) -> int:
    """Largest resident size of a process that does it.

    Raises:
        RuntimeError: it failed, with the last line it wrote.
    """
    command = [sys.executable, "-m", "benchmarks.performance.memory_probe", kind, str(tokens)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        lines = finished.stderr.strip().splitlines() or [f"status {finished.returncode}"]
        raise RuntimeError(lines[-1])
    return int(finished.stdout.split()[-1])
