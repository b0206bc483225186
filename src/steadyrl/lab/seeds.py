"""Seeds of a study: those whose runs can be compared with each other.

Runs of equal seed are compared because they begin with the same cold start. Processors round
differently, so the cold start that another machine made of that seed is another one.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count, islice

from steadyrl.lab.configurations import identity
from steadyrl.lab.running import StudyPaths, cold_start
from steadyrl.lab.study import Study


def run_on_comparable_seeds(
    studies: Sequence[Study],
    paths: StudyPaths,
    machine: str,
    run: Callable[[Sequence[Study]], None],
) -> list[Study]:
    """`studies`, run on as many seeds each, all of which can be compared.

    Args:
        machine: Where missing runs will be made, as their records will call it.
        run: Makes what is missing of studies.
    """
    while True:
        chosen = [on_comparable_seeds(study, paths, machine) for study in studies]
        run(chosen)
        if chosen == [on_comparable_seeds(study, paths, machine) for study in chosen]:
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
    beginnings: dict[str, set[str]] = {}
    for condition in study.conditions:
        record = records[condition.name].get(seed)
        machines.add(machine if record is None else record.machine)
        if record is not None and record.cold_start is not None:
            start = identity(cold_start(condition.run(seed)))
            beginnings.setdefault(start, set()).add(record.cold_start)
    return len(machines) == 1 and all(len(weights) == 1 for weights in beginnings.values())
