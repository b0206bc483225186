"""What `steadyrl diagnose` says of other trainers' logs with known faults.

    python benchmarks/foreign_logs.py --out benchmarks/results/foreign_logs.json

For each trainer and layout, each kind of fault and each seed a log is written as that trainer
writes it, with made-up values (`foreign_log_writers`), and read back without any option. What a log
does not have is not to be guessed: where neither the staleness nor the mismatch is logged, the
verdict has to be that the cause is unknown.
"""

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from foreign_log_writers import FAULTS, LOGS, curves

from steadyrl.analysis.causes import CauseName
from steadyrl.analysis.diagnosis import Status
from steadyrl.analysis.foreign import TRAINERS, ForeignRun, read_foreign_run
from steadyrl.base.settings import Settings
from steadyrl.cli.options import script_options
from steadyrl.records.run_folder import write_atomically

HEALTHY = Status.HEALTHY.value


class Options(Settings):
    """Diagnose made-up logs of other trainers."""

    seeds: int = 10
    """Logs of each kind."""

    out: Path | None = None
    """File for the verdicts, as JSON."""


def verdict(run: ForeignRun) -> str:
    """The cause, or the status of a run without one."""
    diagnosis = run.diagnose()
    return diagnosis.cause.name.value if diagnosis.cause else diagnosis.status.value


def expected(fault: str, name: str) -> str:
    """What should be said of a fault in a log of this trainer."""
    writer = LOGS[name]
    sees_staleness = "staleness_kl_k3" in writer.names
    if fault == "none":
        return HEALTHY
    if fault == "no signal":
        return CauseName.NO_SIGNAL.value
    if fault == "discrepancy":
        return CauseName.DISCREPANCY.value
    if fault == "stale policy" and sees_staleness:
        return CauseName.STALENESS.value
    if sees_staleness or TRAINERS[writer.trainer].one_update:
        return CauseName.LEARNING_RATE.value
    return CauseName.UNRECORDED.value


def verdicts(name: str, fault: str, seeds: int, folder: Path) -> Counter[str]:
    """How often each verdict was given."""
    return Counter(
        verdict(read_foreign_run(LOGS[name].log(folder / f"{seed}", curves(fault, seed))))
        for seed in range(seeds)
    )


def table(results: dict[str, dict[str, Any]]) -> str:
    """The results as Markdown: a row for each log, a column for each fault."""
    lines = [f"| log | {' | '.join(FAULTS)} |", f"|---|{'---|' * len(FAULTS)}"]
    for name, faults in results.items():
        cells = [
            f"{entry['right']} of {entry['logs']}: {entry['expected']}" for entry in faults.values()
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Prints the table, and writes the verdicts."""
    options = script_options(Options)
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as place:
        for name in LOGS:
            for fault in FAULTS:
                folder = Path(place) / name.replace("/", "_") / fault
                found = verdicts(name, fault, options.seeds, folder)
                right = expected(fault, name)
                results.setdefault(name, {})[fault] = {
                    "expected": right,
                    "right": found[right],
                    "logs": options.seeds,
                    "verdicts": dict(found),
                }
    print(table(results))
    if options.out is not None:
        write_atomically(options.out, json.dumps(results, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
