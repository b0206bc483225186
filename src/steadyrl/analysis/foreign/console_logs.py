"""Logs as trainers print them: one line a step, among others.

verl        step:3 - actor/entropy:0.42 - critic/score/mean:0.5
slime       step 3: {'train/loss': 0.1, ...}, and the same for `rollout`, `perf` and `eval`
OpenRLHF    Global step 3: {'reward': 0.5, ...}
TRL         {'loss': '0.1', 'reward': '0.5', 'epoch': '0.2'}
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from steadyrl.analysis.foreign.log import NUMBER, Log, LogRow, numbers_in

ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

_VERL = re.compile(r"(?:^|\s)step:(\d+) - (\S+:.*)$")
_SLIME = re.compile(r"(?:^|\s)(step|rollout|perf|eval|passrate) (\d+): (\{.*\})")
_OPENRLHF = re.compile(r"[Gg]lobal[ _]step (\d+)(?::|, eval_metrics:) (\{.*\})")
_TRL = re.compile(r"(\{'.*'epoch': .*\})\s*$")
_PAIR = re.compile(rf"'([^']+)': '?(?:\w[\w.]*\()?({NUMBER})\)?'?(?=[,}}\s])")

COUNTERS = {"step": "train/step", "eval": "eval/step"}
"""slime's counters by the word that begins a line; the other words count rollouts."""


def row_of(line: str) -> LogRow | None:
    """The metrics in a line; None if it has none."""
    if found := _VERL.search(line):
        pairs = (part.strip().rpartition(":") for part in found[2].split(" - "))
        return LogRow(step=int(found[1]), values=numbers_in((n, value) for n, _, value in pairs))
    if found := _SLIME.search(line):
        step = int(found[2])
        values = {COUNTERS.get(found[1], "rollout/step"): float(step)} | _pairs(found[3])
        return LogRow(step=step, values=values) if len(values) > 1 else None
    if found := _OPENRLHF.search(line):
        return LogRow(step=int(found[1]), values=_pairs(found[2]))
    if found := _TRL.search(line):
        return LogRow(values=_pairs(found[1]))
    return None


def is_console(head: Iterable[str]) -> bool:
    """Whether one of the lines has metrics."""
    return any(row_of(ESCAPES.sub("", line)) for line in head)


def read_console(path: Path) -> Log:
    """The rows of a console log. Steps that the console does not name are counted."""
    rows = tuple(_rows(path))
    unnumbered = any(row.step is None for row in rows)
    remark = "The console does not say the step, so logged rows are counted instead."
    return Log(layout="console lines", rows=rows, remarks=(remark,) if unnumbered else ())


def _rows(path: Path) -> Iterator[LogRow]:
    with path.open(encoding="utf-8", errors="replace") as file:  # \r ends a line, too
        for line in file:
            row = row_of(ESCAPES.sub("", line.rstrip("\n")))
            if row is not None:
                yield row


def _pairs(text: str) -> dict[str, float]:
    return {name: float(value) for name, value in _PAIR.findall(text)}
