"""Running a study of doses: each run is chosen after those before it under the same remedy."""

import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait

from steadyrl.base.errors import UserError
from steadyrl.lab.configurations import identity
from steadyrl.lab.dose import Dial, DoseStudy
from steadyrl.lab.records import find_records
from steadyrl.lab.running import (
    Progress,
    StudyPaths,
    cold_start,
    cold_started,
    end_with_parent,
    ending,
    finish_cold_start,
    finish_run,
)
from steadyrl.run.config import RunConfig


def run_doses(
    study: DoseStudy,
    paths: StudyPaths,
    machine: str,
    *,
    processes: int,
    watch: Callable[[Progress], None],
) -> None:
    """Runs one dial of `study` after the other: its controls, then its remedies side by side.

    A process makes many runs, one after the other. Which doses are run does not depend on the
    number of processes.

    Args:
        machine: Where missing runs will be made, as their records will call it.

    Raises:
        UserError: a run cannot be started or resumed, or runs of the study come from another
            cold start, as of another machine.
    """
    _require_machine(study, paths, machine)
    workers = ProcessPoolExecutor(
        processes, multiprocessing.get_context("spawn"), initializer=end_with_parent
    )
    with ending(workers) as pool:
        for dial in study.dials:
            controls = next(dial.conditions())
            if not study.of(dial).is_finished(paths.records_of(study)):
                start = cold_start(controls.run(study.controls[0]))
                pool.submit(finish_cold_start, start, paths).result()
                _require_cold_start(study.of(dial), paths)
            _finish_missing([controls.run(seed) for seed in study.controls], paths, pool)
            _run_remedies(study.of(dial), dial, paths, pool, lambda: watch(_progress(study, paths)))
    watch(_progress(study, paths))


def _require_machine(study: DoseStudy, paths: StudyPaths, machine: str) -> None:
    runs = paths.records_of(study)
    others = {run.machine for by_seed in runs.values() for run in by_seed.values()} - {machine}
    if others and not study.is_finished(runs):
        raise UserError(
            f"{study.name} has runs from another machine ({'; '.join(sorted(others))}), which "
            "rounds differently, so its cold start is another. Finish it there, or give another "
            "--out to begin anew."
        )


def _require_cold_start(study: DoseStudy, paths: StudyPaths) -> None:
    runs = paths.records_of(study)
    begun = {run.cold_start for by_seed in runs.values() for run in by_seed.values()} - {None}
    here = cold_started(study.conditions[0].config, paths)
    if begun and begun != {here}:
        raise UserError(
            f"{study.name} has runs from a cold start of other weights than the one made here "
            f"({', '.join(sorted(map(str, begun)))}, here {here}): processors round differently, "
            "also those of the same name. Finish it where it began, or give another --out to "
            "begin anew."
        )


def _finish_missing(
    configs: Iterable[RunConfig], paths: StudyPaths, pool: ProcessPoolExecutor
) -> None:
    """Runs `configs` that are missing, side by side."""
    finished = find_records(paths.records)
    missing = [config for config in configs if identity(config) not in finished]
    for run in [pool.submit(finish_run, config, paths) for config in missing]:
        run.result()


def _run_remedies(
    study: DoseStudy,
    dial: Dial,
    paths: StudyPaths,
    pool: ProcessPoolExecutor,
    watch: Callable[[], None],
) -> None:
    waiting: dict[Future[None], str] = {}

    def submit(remedy: str) -> None:
        config = study.next_run(dial, remedy, paths.records_of(study))
        if config is not None:
            waiting[pool.submit(finish_run, config, paths)] = remedy

    for remedy in dial.remedies:
        submit(remedy)
    while waiting:
        watch()
        for done in wait(waiting, return_when=FIRST_COMPLETED).done:
            done.result()
            submit(waiting.pop(done))


def _progress(study: DoseStudy, paths: StudyPaths) -> Progress:
    """Finished runs of the most that can be needed."""
    finished = sum(map(len, paths.records_of(study).values()))
    most = sum(len(study.controls) + len(dial.remedies) * len(study.seeds) for dial in study.dials)
    return Progress(finished=finished, runs=most, steps=finished, all_steps=most, seconds_left=None)
