"""Running the missing runs of studies: one run per process, one thread per process.

A run that was finished once is never run again; one that was interrupted goes on from its last
checkpoint. Runs of equal seed that begin with the same cold start share it.
"""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from steadyrl.base.errors import NonFiniteError
from steadyrl.lab.configurations import identities, identity
from steadyrl.lab.records import (
    RunRecord,
    digest_of,
    find_records,
    read_record,
    record_of,
    write_record,
)
from steadyrl.lab.study import Study, changed
from steadyrl.policies.loading import no_progress_bars
from steadyrl.policies.model_settings import Pretrained
from steadyrl.records.run_folder import RunFolder
from steadyrl.run.config import RunConfig
from steadyrl.run.execution import resume_run, start_run
from steadyrl.training.checkpoint import latest_checkpoint, weights_digest
from steadyrl.training.journal import JournalSettings
from steadyrl.training.trackers import JsonlSettings

LOOK_EVERY = 2.0
"""Seconds between progress updates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPaths:
    """Folders of runs in progress and of finished records."""

    records: Path
    folders: Path

    def new_record(self, config: RunConfig) -> Path:
        """Path for the record of the run that `config` describes."""
        return self.records / f"{digest_of(config)}.json"

    def folder(self, config: RunConfig) -> RunFolder:
        """The folder of the run that `config` describes."""
        return RunFolder(self.folders / digest_of(config))

    def records_of(self, study: Study) -> dict[str, dict[int, RunRecord]]:
        """The finished runs of `study`, by condition and seed.

        Raises:
            UserError: a record cannot be read.
        """
        found = find_records(self.records)
        return {
            condition.name: {
                seed: read_record(found[run])
                for run, seed in identities(condition.config, study.seeds).items()
                if run in found
            }
            for condition in study.conditions
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Progress of this call."""

    finished: int
    """Finished runs, including those of earlier calls."""

    runs: int
    steps: int
    """Recorded steps of cold starts and of reinforcement learning."""

    all_steps: int
    seconds_left: float | None
    """Estimate from the mean speed of this call; None before its first step."""


def run_studies(
    studies: Sequence[Study],
    paths: StudyPaths,
    *,
    processes: int,
    watch: Callable[[Progress], None],
    goes_on: Callable[[], bool] = lambda: True,
) -> None:
    """Runs the missing runs of `studies`, all conditions of a seed before the next seed.

    Args:
        goes_on: Whether the runs are made, asked when their cold starts are there.

    Raises:
        UserError: a run cannot be started or resumed.
    """
    requested = _unique(
        condition.run(seed)
        for study in studies
        for seed in study.seeds
        for condition in study.conditions
    )
    finished = find_records(paths.records)
    missing = [run for run in requested if identity(run) not in finished]
    cold_starts = _unique(cold_start(run) for run in missing if run.cold_start)
    look = _Look(paths, requested, missing, cold_starts)
    watch(look.progress())
    workers = ProcessPoolExecutor(
        processes,
        multiprocessing.get_context("spawn"),
        initializer=end_with_parent,
        max_tasks_per_child=1,
    )
    with ending(workers) as pool:
        for function, runs in (
            (finish_cold_start, cold_starts),
            (finish_run, missing),
        ):
            if function is finish_run and not goes_on():
                return
            waiting = {pool.submit(function, run, paths) for run in runs}
            while waiting:
                done, waiting = wait(waiting, LOOK_EVERY, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
                watch(look.progress())


def _unique(configs: Iterable[RunConfig]) -> list[RunConfig]:
    """Each of `configs` once."""
    return list({identity(config): config for config in configs}.values())


def end_with_parent() -> None:
    """Ends this process at once when the one that started it ends, killed or not, or at Ctrl-C.

    Its run goes on from its last checkpoint the next time.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "this is no worker of another process"
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # without a traceback beside the other's message

    def watch() -> None:
        parent.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def cold_start(run: RunConfig) -> RunConfig:
    """The run that makes the cold start of `run` and goes no further.

    It has of `run` only what the weights after it depend on, and the budget of an answer.
    """
    return RunConfig(
        seed=run.first_seed,
        threads=run.threads,
        model=run.model,
        environment=run.environment,
        cold_start=run.cold_start,
        steps=0,
        sampling=run.sampling,
        learner=run.learner.model_copy(update={"rollout_logprobs": "engine"}),
        journal=JournalSettings(keep_checkpoints=1),
        trackers=(JsonlSettings(),),
    )


def cold_checkpoint(run: RunConfig, paths: StudyPaths) -> Path | None:
    """The checkpoint of the cold start of `run` that was made here; None without one."""
    return latest_checkpoint(paths.folder(cold_start(run))) if run.cold_start else None


def cold_started(run: RunConfig, paths: StudyPaths) -> str | None:
    """The `weights_digest` of the cold start of `run` that was made here; None without one."""
    checkpoint = cold_checkpoint(run, paths)
    return None if checkpoint is None else weights_digest(checkpoint)


def finish_cold_start(config: RunConfig, paths: StudyPaths) -> None:
    """Starts the cold start that `config` describes, or goes on with it."""
    _finish(config, config, paths)


def finish_run(config: RunConfig, paths: StudyPaths) -> None:
    """Starts the run that `config` describes, or goes on with it, and writes its record.

    A run whose loss or gradient is no longer finite ends there: that is a result, and is kept.
    """
    warm, failure, weights = config, None, None
    if config.cold_start is not None:
        checkpoint = cold_checkpoint(config, paths)
        assert checkpoint is not None
        warm = changed(config, model=Pretrained(path=str(checkpoint)).model_dump(), cold_start=None)
        weights = weights_digest(checkpoint)
    try:
        _finish(config, warm, paths)
    except NonFiniteError as error:
        failure = str(error)
    folder = paths.folder(config)
    record = record_of(folder, config, failure=failure, cold_start=weights)
    write_record(record, paths.new_record(config))


def _finish(name: RunConfig, config: RunConfig, paths: StudyPaths) -> None:
    """Runs `config` to its end, in the folder that belongs to `name`."""
    folder = paths.folder(name)
    with no_progress_bars():
        if folder.config.exists():
            resume_run(folder.path)
        else:
            start_run(config, folder.path)


class _Look:
    """Sees in the run folders how far everything has come."""

    def __init__(
        self,
        paths: StudyPaths,
        requested: list[RunConfig],
        missing: list[RunConfig],
        cold_starts: list[RunConfig],
    ) -> None:
        self._paths = paths
        self._requested = set(map(identity, requested))
        self._work = [*cold_starts, *missing]
        self._all_steps = sum(run.cold_start.steps for run in cold_starts if run.cold_start)
        self._all_steps += sum(run.steps for run in missing)
        self._began = time.monotonic()
        self._steps_before = self._steps()

    def progress(self) -> Progress:
        steps = self._steps()
        taken = steps - self._steps_before
        seconds = time.monotonic() - self._began
        return Progress(
            finished=len(self._requested & find_records(self._paths.records).keys()),
            runs=len(self._requested),
            steps=steps,
            all_steps=self._all_steps,
            seconds_left=seconds / taken * max(0, self._all_steps - steps) if taken else None,
        )

    def _steps(self) -> int:
        folders = (self._paths.folder(run) for run in self._work)
        return sum(_lines(folder.metrics) for folder in folders)


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.is_file() else 0


@contextmanager
def ending(pool: ProcessPoolExecutor) -> Iterator[ProcessPoolExecutor]:
    """Gives up what has not begun when something goes wrong, and all of it at Ctrl-C."""
    try:
        yield pool
    except KeyboardInterrupt:
        for worker in multiprocessing.active_children():
            worker.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
