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

from steadyrl.analysis.foreign.log import NUMBER, Log, LogRow
from steadyrl.base.text_files import open_text

ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?)|\0")
"""Colors, links, and the bytes with which a log that was cut while it was written is filled."""

WORDS = ("step:", "Step ", ": {", "'epoch': ", "===", "Results:", "\N{BULLET}")
"""What a line with metrics has one of; all others are passed over fast."""

_VERL = re.compile(r"(?:^|\s)step:(\d+) - (\S+:.*)$")
_METRIC = re.compile(rf"(\S.*?):(?:\w[\w.]*\()?({NUMBER})(?:[\s(),\[\]].*)?")
"""A metric of verl's. What another process prints into the line may follow it."""

_WRAPPED = re.compile(rf"(?!.*\bstep:\d)(?:\S*|[^\s:]*:{NUMBER}) - \S+:(?:\w[\w.]*\()?{NUMBER}")
"""How the rest of verl's line begins that was copied from a terminal with its line breaks."""

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
        metrics = map(_METRIC.fullmatch, map(str.strip, found[2].split(" - ")))
        return LogRow(step=int(found[1]), values={m[1]: float(m[2]) for m in metrics if m})
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

    @property
    def is_open(self) -> bool:
        """Whether lines of results may follow."""
        return bool(self._of)

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
    for line in _whole(lines):
        if results.is_open or any(map(line.__contains__, WORDS)):
            row = row_of(line) or results.row_of(line)
            if row is not None:
                yield row


def _whole(lines: Iterable[str]) -> Iterator[str]:
    """The lines without colors; one of verl's that was broken into several is joined."""
    waiting = ""
    for line in lines:
        plain = line.rstrip("\n")
        if "\x1b" in plain or "\0" in plain:
            plain = ESCAPES.sub("", plain)
        if waiting and _WRAPPED.match(plain) and _goes_on(waiting, plain):
            waiting += plain
            continue
        if waiting:
            yield waiting
        waiting = ""
        if "step:" in plain and _VERL.search(plain):
            waiting = plain
        else:
            yield plain
    if waiting:
        yield waiting


def _goes_on(line: str, rest: str) -> bool:
    """Whether the last metric of a line is still one with what follows."""
    return not _METRIC.fullmatch(_last(line)) or bool(_METRIC.fullmatch(_last(line) + _first(rest)))


def _last(line: str) -> str:
    return line.rpartition(" - ")[2].strip()


def _first(line: str) -> str:
    return line.partition(" - ")[0].rstrip()


def _pairs(text: str) -> dict[str, float]:
    return {name: float(value) for name, value in _PAIR.findall(text)}
