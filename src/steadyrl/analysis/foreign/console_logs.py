"""Logs as trainers print them: one line a step, among others.

verl        step:3 - actor/entropy:0.42 - critic/score/mean:0.5
slime       step 3: {'train/loss': 0.1, ...}, and the same for `rollout`, `perf` and `eval`
OpenRLHF    Global step 3: {'reward': 0.5, ...}
TRL         {'loss': '0.1', 'reward': '0.5', 'epoch': '0.2'}
prime-rl    Step 3 | 12s | Reward 0.5 | ..., in older versions with a colon behind each name
NeMo-RL     === Step 3/10 ===, and below `Training Results:` a line for each metric
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from steadyrl.analysis.foreign.log import NUMBER, Log, LogRow, numbers_in
from steadyrl.base.text_files import open_text

ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

_VERL = re.compile(r"(?:^|\s)step:(\d+) - (\S+:.*)$")
_SLIME = re.compile(r"(?:^|\s)(step|rollout|perf|eval|passrate) (\d+): (\{.*\})")
_OPENRLHF = re.compile(r"[Gg]lobal[ _]step (\d+)(?::|, eval_metrics:) (\{.*\})")
_PAIR = re.compile(rf"'([^']+)': '?(?:\w[\w.]*\()?({NUMBER})\)?'?(?=[,}}\s])")
_PRIME = re.compile(r"(?:^|\s)Step (\d+) \| (.*\S)")
_PART = re.compile(rf"\s*([A-Za-z][A-Za-z. -]*?):? +({NUMBER})(%?).*")

_HEADING = re.compile(r"=== (Epoch|Step) (\d+)/(\d+) ===")
_RESULTS = re.compile(r"\b(Training|Validation) Results:")
_RESULT = re.compile(rf"\s*\N{{BULLET}} ([^:]+): ({NUMBER})\b")

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
    if found := _PRIME.search(line):
        values = dict(filter(None, map(_part, found[2].split("|"))))
        return LogRow(step=int(found[1]), values=values) if values else None
    if (place := line.find("'epoch': ")) >= 0:
        values = _pairs(line[max(0, line.rfind("{", 0, place)) : line.find("}", place) + 1])
        return LogRow(values=values) if "epoch" in values else None
    return None


def _part(text: str) -> tuple[str, float] | None:
    """A metric of prime-rl's: `Reward 0.5`, `LR 1.0e-06` or `Truncation 12.5%`."""
    found = _PART.fullmatch(text)
    return None if found is None else (found[1], float(found[2]) / (100 if found[3] else 1))


class _Results:
    """Lines of results, which belong to the step whose heading stands above them."""

    def __init__(self) -> None:
        self._before, self._step, self._last, self._of = 0, 0, 0, ""

    def row_of(self, line: str) -> LogRow | None:
        """The metric in a line; None if it has none."""
        if found := _HEADING.search(line):
            number, last = int(found[2]), int(found[3])
            if found[1] == "Step":
                self._step, self._last = self._before + number, last
            elif number > 1:
                self._before += self._last
            self._of = ""
        elif found := _RESULTS.search(line):
            self._of = found[0].rstrip(":")
        elif self._of and (found := _RESULT.match(line)):
            name = f"{self._of}/{found[1].strip()}"
            return LogRow(step=self._step, values={name: float(found[2])})
        elif not line.strip():
            self._of = ""
        return None


def is_console(head: Iterable[str]) -> bool:
    """Whether one of the lines has metrics."""
    return any(_rows(head))


def read_console(path: Path) -> Log:
    """The rows of a console log. Steps that the console does not name are counted."""
    with open_text(path) as file:  # \r ends a line, too
        rows = tuple(_rows(file))
    unnumbered = any(row.step is None for row in rows)
    remark = "The console does not say the step, so logged rows are counted instead."
    return Log(layout="console lines", rows=rows, remarks=(remark,) if unnumbered else ())


def _rows(lines: Iterable[str]) -> Iterator[LogRow]:
    results = _Results()
    for line in lines:
        plain = ESCAPES.sub("", line.rstrip("\n"))
        row = row_of(plain) or results.row_of(plain)
        if row is not None:
            yield row


def _pairs(text: str) -> dict[str, float]:
    return {name: float(value) for name, value in _PAIR.findall(text)}
