"""What `steadyrl diagnose` would have said of every run of the studies, along its course.

    python benchmarks/diagnosed_studies.py --out benchmarks/results/diagnosed_studies.json

Reads the run folders that `steadyrl study` leaves, where they are still there. A run is diagnosed
as by someone who watches it. What became of it is measured without the diagnosis: `kept`, the mean
reward of its last tenth over that of its best tenth.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np

from steadyrl.analysis import RunSettings
from steadyrl.analysis.diagnosis import Diagnosis, Status, diagnose
from steadyrl.analysis.series import Stage
from steadyrl.base.settings import Settings
from steadyrl.cli.option_names import Positional
from steadyrl.cli.options import script_options
from steadyrl.lab.catalog import STUDIES
from steadyrl.lab.configurations import identity
from steadyrl.lab.measures import MEASURES
from steadyrl.lab.records import find_records, read_record
from steadyrl.policies.numerics import Numerics
from steadyrl.records.run_folder import RunFolder, write_atomically
from steadyrl.report.run_data import read_run
from steadyrl.run.manifest import manifest

SEEDS = 7
LOOKS = 100
FATES = {"kept 0.9 or more": 0.9, "kept 0.5 to 0.9": 0.5, "kept less than 0.5": 0.0}
"""What becomes of runs, and the least that such a run keeps of its best reward."""


class Options(Settings):
    """Diagnose the runs of the studies."""

    work: Annotated[Path, Positional()] = Path("runs/studies")
    """Where the run folders are."""

    records: Path = Path("results/runs")
    """Where the records of finished runs are."""

    out: Path | None = None
    """Where to write the numbers as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the diagnoses of one run came to."""

    run: str
    study: str
    condition: str
    seed: int
    kept: float
    steps: int
    alarm: int | None
    """The first step at which the diagnosis is an alarm."""

    alarmed: float
    """The share of diagnoses that are alarms."""

    fallen: int | None
    """The first step at which the diagnosis is "collapsed"."""

    status: str
    cause: str | None

    @property
    def fate(self) -> str:
        """What became of the run."""
        return next(fate for fate, least in FATES.items() if self.kept >= least)


def outcomes(options: Options) -> Iterator[Outcome]:
    """One for each finished run of the studies of policy gradients whose folder is there."""
    seen = set()
    records = find_records(options.records)
    for numerics in (Numerics.FP8, Numerics.INT4):
        for make in STUDIES.values():
            study = make(numerics).with_seeds(SEEDS)
            for condition in study.conditions:
                for seed in study.seeds:
                    path = records.get(identity(condition.run(seed)))
                    alone = condition.config.algorithm is None and study.experiment != "erl"
                    if path is None or path in seen or not alone:
                        continue
                    record = read_record(path)
                    folder = options.work / record.digest
                    if not folder.exists():
                        continue
                    seen.add(path)
                    kept = MEASURES["kept"](record)
                    run = read_run(RunFolder(folder))
                    diagnoses = course(run.stages[-1], run.settings)
                    yield outcome_of(
                        record.digest, study.name, condition.name, seed, kept, diagnoses
                    )


def course(stage: Stage, settings: RunSettings) -> list[Diagnosis]:
    """The diagnoses at up to `LOOKS` places of its course, evenly, the last step among them."""
    stride = -(-stage.last_step // LOOKS)
    steps = range(stage.last_step, 0, -stride)
    return [diagnose((until(stage, step),), settings) for step in reversed(steps)]


def until(stage: Stage, step: int) -> Stage:
    """The stage as it was after `step`."""
    return replace(stage.at(np.arange(step + 1)), last_step=step)


def outcome_of(
    run: str, study: str, condition: str, seed: int, kept: float, diagnoses: list[Diagnosis]
) -> Outcome:
    """What `diagnoses`, in the order of steps, came to."""
    sick = [each.steps for each in diagnoses if each.is_alarm]
    fallen = [each.steps for each in diagnoses if each.status is Status.COLLAPSED]
    last = diagnoses[-1]
    return Outcome(
        run=run,
        study=study,
        condition=condition,
        seed=seed,
        kept=round(kept, 4),
        steps=last.steps,
        alarm=min(sick, default=None),
        alarmed=round(len(sick) / len(diagnoses), 4),
        fallen=min(fallen, default=None),
        status=last.status,
        cause=last.cause.name if last.cause else None,
    )


def table(found: list[Outcome]) -> list[str]:
    """A row for each fate."""
    heads = ("fate", "runs", "ever an alarm", "alarm at the end", "ever called collapsed", "cause")
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for fate in FATES:
        runs = [outcome for outcome in found if outcome.fate == fate]
        ever = sum(outcome.alarm is not None for outcome in runs)
        at_end = sum(outcome.status not in (Status.HEALTHY, Status.TOO_SHORT) for outcome in runs)
        fallen = sum(outcome.fallen is not None for outcome in runs)
        causes = Counter(outcome.cause for outcome in runs if outcome.cause)
        named = ", ".join(f"{cause} {count}" for cause, count in causes.most_common())
        lines.append(f"| {fate} | {len(runs)} | {ever} | {at_end} | {fallen} | {named} |")
    return lines


def main(options: Options) -> None:
    """Prints the table and writes the numbers."""
    found = list(outcomes(options))
    print("\n".join(table(found)))
    if options.out is not None:
        content = {**manifest(0), "runs": [asdict(outcome) for outcome in found]}
        write_atomically(options.out, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main(script_options(Options))
