"""Which seeds a study is run on: those whose runs can be compared with each other.

Runs of equal seed are compared because they begin with the same cold start. Processors round
differently, so the cold start that another machine made of that seed is another one.
"""

from dataclasses import replace
from itertools import count, islice

from steadyrl.studies.running import Workplace
from steadyrl.studies.study import Study


def on_one_machine_a_seed(study: Study, workplace: Workplace, machine: str) -> Study:
    """`study` on the next seeds in the place of those that several machines would have a share in.

    Args:
        machine: Where runs that are missing would be made, as their records will call it.
    """
    usable = (
        seed for seed in count(study.seeds[0]) if _one_machine(study, seed, workplace, machine)
    )
    return replace(study, seeds=tuple(islice(usable, len(study.seeds))))


def _one_machine(study: Study, seed: int, workplace: Workplace, machine: str) -> bool:
    finished = workplace.records_of(replace(study, seeds=(seed,)))
    machines = {record.machine for by_seed in finished.values() for record in by_seed.values()}
    if not all(finished.values()):
        machines.add(machine)
    return len(machines) == 1
