"""Seeds of a study: those whose runs can be compared with each other.

Runs of equal seed are compared because they begin with the same cold start. Processors round
differently, so the cold start that another machine made of that seed is another one, even where
both machines are called the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count, islice

from steadyrl.lab.configurations import identity
from steadyrl.lab.running import StudyPaths, cold_start, cold_started
from steadyrl.lab.study import Study
from steadyrl.run.config import RunConfig


def run_on_comparable_seeds(
    studies: Sequence[Study], paths: StudyPaths, machine: str, run: Callable[..., None]
) -> list[Study]:
    """`studies`, run on as many seeds each, all of which can be compared.

    Seeds are chosen again if a cold start turns out to be another than that of runs on record.

    Args:
        machine: Where missing runs will be made, as their records will call it.
        run: Makes what is missing of studies; if not `goes_on()`, their cold starts alone.
    """

    def choice() -> list[Study]:
        return [on_comparable_seeds(study, paths, machine) for study in studies]

    def unchanged(chosen: list[Study]) -> bool:
        return choice() == chosen

    while True:
        chosen = choice()
        run(chosen, goes_on=partial(unchanged, chosen))
        if unchanged(chosen):
            return chosen


def on_comparable_seeds(study: Study, paths: StudyPaths, machine: str) -> Study:
    """`study` on the next seeds in the place of those whose runs began with unlike cold starts, or
    would if this `machine` made the missing ones.
    """
    usable = (seed for seed in count(study.seeds[0]) if _alike(study, seed, paths, machine))
    return replace(study, seeds=tuple(islice(usable, len(study.seeds))))


def _alike(study: Study, seed: int, paths: StudyPaths, machine: str) -> bool:
    records = paths.records_of(replace(study, seeds=(seed,)))
    machines: set[str] = set()
    beginnings: dict[str, set[str | None]] = {}
    missing: dict[str, RunConfig] = {}
    for condition in study.conditions:
        record, run = records[condition.name].get(seed), condition.run(seed)
        machines.add(machine if record is None else record.machine)
        start = identity(cold_start(run))
        if record is None:
            missing[start] = run
        else:
            beginnings.setdefault(start, set()).add(record.cold_start)
    for start, run in missing.items():  # conditions share a cold start, which is hashed once
        beginnings.setdefault(start, set()).add(cold_started(run, paths))
    return len(machines) == 1 and all(len(weights - {None}) <= 1 for weights in beginnings.values())
