"""Starting and resuming runs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from functools import partial
from pathlib import Path

from steadyrl.base.errors import UserError
from steadyrl.base.kernel_caches import limit_kernel_caches
from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.base.run_lock import only_writer
from steadyrl.engines.driver import drive
from steadyrl.learners.fsdp.hosts import RankEndedError
from steadyrl.policies.chat_templates import writes_date
from steadyrl.policies.checkpoint_folder import is_local
from steadyrl.policies.loading import load_tokenizer
from steadyrl.policies.model_settings import Pretrained
from steadyrl.records.run_folder import RunFolder, write_atomically
from steadyrl.run.assembly import Assembly, with_decisions
from steadyrl.run.config import RunConfig, from_yaml, to_yaml
from steadyrl.run.data_digests import compare_data, data_digests
from steadyrl.run.manifest import as_json, manifest, this_source, written_by
from steadyrl.run.memory_check import require_memory
from steadyrl.run.places import with_absolute_paths
from steadyrl.run.rank_loss import until_complete
from steadyrl.run.resumption import (
    changes_in_words,
    check_changes,
    check_unedited,
    resolve_from,
    resume_record,
    settings_digest,
)
from steadyrl.run.start_checks import check_parts
from steadyrl.training.checkpoint import (
    check_stage,
    latest_checkpoint,
    load_checkpoint,
    read_algorithm_state,
    read_waiting,
)
from steadyrl.training.checkpointer import Checkpointer
from steadyrl.training.journal import Journal
from steadyrl.training.loop import train
from steadyrl.training.stage import RunPosition
from steadyrl.training.trackers import Tracker


def start_run(
    config: RunConfig,
    path: Path,
    trackers: Sequence[Tracker] = (),
    progress: Progress = NO_PROGRESS,
) -> RunFolder:
    """Runs `config` in the folder `path` until it is complete.

    A run in that folder that failed before its first measurement is replaced. If a rank of the
    learner ends, the run is resumed as often as the placement allows.

    Args:
        trackers: Open trackers, in addition to those of the configuration. They stay open.

    Raises:
        UserError: the folder holds a run already or cannot be written; parts do not fit together.
    """
    folder = RunFolder(path)
    return until_complete(
        partial(_start, config, path, trackers, progress),
        partial(_resume, folder, trackers, progress),
        folder,
        config.placement.resumes,
    )


def _start(
    config: RunConfig, path: Path, trackers: Sequence[Tracker], progress: Progress
) -> RunFolder:
    folder = RunFolder(path)
    _check_free(folder)
    _require_trackers(config)
    config = with_decisions(_with_template_date(with_absolute_paths(config)))
    with _assembled(config, progress) as assembly, only_writer(path):
        _check_free(folder)  # another run may have begun there in the meantime
        progress.begin("reading the data for their digests")
        data = data_digests(config)
        try:
            folder.clear()
            text = to_yaml(config)
            settings = settings_digest(text, data)
            write_atomically(folder.manifest, as_json(manifest(config.seed, data, settings)))
            write_atomically(folder.config, text)
        except OSError as error:
            raise UserError(
                f"The run folder {path} cannot be written: {error.strerror}. Choose another --out."
            ) from error
        _run(assembly, config, folder, RunPosition(), trackers, progress)
    return folder


def resume_run(
    path: Path,
    trackers: Sequence[Tracker] = (),
    progress: Progress = NO_PROGRESS,
    *,
    config: RunConfig | None = None,
    accept_changed_data: bool = False,
) -> RunFolder:
    """Resumes the run in `path` from its last checkpoint, or from the start without one.

    Args:
        trackers: Open trackers, in addition to those of the configuration. They stay open.
        config: Configuration with changes that are allowed on resume; None: unchanged.
        accept_changed_data: Whether to continue if the data of the run have changed.

    Raises:
        UserError: there is no run, another process writes it, its last checkpoint is damaged, a
            change would alter what it learns, or its data have changed or are missing.
    """
    folder = RunFolder(path)
    if not folder.config.exists():
        raise UserError(
            f"{path} is not the folder of a run: it has no {folder.config.name}. Give a folder "
            "that 'steadyrl train' wrote, or begin a run there with --out."
        )
    began = read_config(folder)
    config = None if config is None else resolve_from(config, began)
    resume = partial(_resume, folder, trackers, progress, config, accept_changed_data)
    return until_complete(resume, resume, folder, (config or began).placement.resumes)


def _resume(
    folder: RunFolder,
    trackers: Sequence[Tracker],
    progress: Progress,
    config: RunConfig | None = None,
    accept_changed_data: bool = False,
    reason: str = "",
) -> RunFolder:
    """Resumes a run once.

    Args:
        reason: A note on why it is resumed.
    """
    began, saved = read_config(folder), saved_config(folder)
    check_unedited(folder)
    changes = {} if config is None else check_changes(began, config, folder)
    changed = saved if config is None else config.model_copy(update={"model": saved.model})
    _require_trackers(changed)
    progress.begin("comparing the data with those that the run has read")
    data = data_digests(began)
    data_changes, data_note = compare_data(folder, data, accept=accept_changed_data)
    with only_writer(folder.path), _assembled(changed, progress) as assembly:
        position, checkpoint = RunPosition(), latest_checkpoint(folder)
        if checkpoint is not None:
            progress.begin("loading the checkpoint")
            check_stage(checkpoint, assembly.stages)
            position = load_checkpoint(checkpoint, assembly.learner)
            state = read_algorithm_state(checkpoint, assembly.stages)
            if state is not None:
                assembly.sampler.load_state(position.stage, state)
            waiting = read_waiting(checkpoint)
            if waiting is not None:
                assembly.sampler.load_waiting(position.stage, waiting)
        text = to_yaml(config or began)
        record = resume_record(
            changed, folder, changes | data_changes, data, settings_digest(text, data)
        )
        folder.append_resume(record)
        if changes:
            write_atomically(folder.config, text)
        note = changes_in_words(saved, changed, changes) if changes else ""
        _run(assembly, changed, folder, position, trackers, progress, (reason, note, data_note))
    return folder


def _require_trackers(config: RunConfig) -> None:
    for tracker in config.trackers:
        tracker.require()


def _with_template_date(config: RunConfig) -> RunConfig:
    """`config` with today's date, if the chat template needs one and none is given."""
    model = config.model
    if not isinstance(model, Pretrained) or model.template_date is not None:
        return config
    if not writes_date(load_tokenizer(model)):
        return config
    dated = model.model_copy(update={"template_date": date.today()})
    return config.model_copy(update={"model": dated})


def _check_free(folder: RunFolder) -> None:
    if folder.is_taken:
        raise UserError(
            f"{folder.path} already holds a run. Continue it with --resume {folder.path}, or "
            "choose another --out."
        )


def read_config(folder: RunFolder) -> RunConfig:
    """The configuration in `folder`, as it was saved.

    Raises:
        UserError: it is not valid. The message names the version that saved it, if it is another.
    """
    try:
        return from_yaml(folder.config)
    except UserError as error:
        wrote, here = written_by(folder), this_source()
        if wrote is None or wrote == here:
            raise
        raise UserError(
            f"{str(error).removesuffix('.')}. The run was written by {wrote}, and this is {here}, "
            "whose settings differ: resume it with the source that wrote it, or begin a new run "
            "with --model and its last checkpoint."
        ) from error


def saved_config(folder: RunFolder) -> RunConfig:
    """The configuration of the run in `folder`.

    If the checkpoint that it started from is missing, the model is the run's own last checkpoint,
    which differs only in the weights.
    """
    config, last = read_config(folder), latest_checkpoint(folder)
    model = config.model
    if not isinstance(model, Pretrained) or last is None or not is_local(model.path):
        return config
    holds_model = any(last.glob("model*.safetensors"))  # not so for adapters and shards
    if not holds_model or Path(model.path).expanduser().exists():
        return config
    its_own = model.model_copy(update={"path": str(last.resolve())})
    return config.model_copy(update={"model": its_own})


@contextmanager
def _assembled(config: RunConfig, progress: Progress) -> Iterator[Assembly]:
    """The assembly of a run, which is closed at the end.

    Raises:
        UserError: it does not fit into memory, or components are incompatible.
    """
    limit_kernel_caches()
    tokenizer = load_tokenizer(config.model)
    require_memory(config, tokenizer)
    try:
        assembly = Assembly.of(config, tokenizer=tokenizer, progress=progress)
    except RankEndedError as error:  # it would end again at the next start
        raise UserError(str(error)) from error
    try:
        yield assembly
    finally:
        assembly.close()


def _run(
    assembly: Assembly,
    config: RunConfig,
    folder: RunFolder,
    position: RunPosition,
    trackers: Sequence[Tracker],
    progress: Progress,
    resume_notes: Sequence[str] = (),
) -> None:
    journal = Journal(
        folder,
        config.journal,
        assembly.stages,
        position,
        trackers=config.trackers,
        opened=trackers,
        config=config.model_dump(mode="json"),
    )
    try:
        for note in filter(None, resume_notes):
            journal.note(assembly.stages[position.stage], position.step + 1, note)
        for note in assembly.notes:
            journal.note_once(assembly.stages[0], 0, note)
        for note in drive(check_parts(assembly, config)):
            journal.note_once(assembly.stages[0], 0, note)
        drive(
            train(
                assembly.stages,
                assembly.learner,
                assembly.engine,
                assembly.sampler,
                assembly.evaluator,
                journal,
                Checkpointer(folder, config.journal),
                position,
                progress,
            )
        )
    finally:
        journal.close()
