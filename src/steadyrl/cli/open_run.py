"""Opening a run for commands that inspect it."""

from pathlib import Path

from steadyrl.base.errors import UserError
from steadyrl.records.run_folder import RunFolder
from steadyrl.training.checkpoint import latest_checkpoint, verify_checkpoint


def open_run(path: Path) -> RunFolder:
    """The run in the folder `path`.

    Raises:
        UserError: there is none.
    """
    folder = RunFolder(path)
    if not folder.config.exists():
        raise UserError(f"{path} is not a run folder. Give a folder that 'steadyrl train' wrote.")
    return folder


def open_checkpoint(path: Path) -> tuple[Path, RunFolder | None]:
    """The checkpoint that `path` names, verified if it is of a run, and that run.

    Args:
        path: A run, whose last checkpoint is meant; one of its checkpoints; or another folder.

    Raises:
        UserError: the run has no checkpoint, or it is damaged.
    """
    if (path / "config.yaml").is_file():
        run = open_run(path)
        checkpoint = latest_checkpoint(run)
        if checkpoint is None:
            raise UserError(f"{path} has no checkpoint yet. Let it run to its first one.")
    elif (path.resolve().parent.parent / "config.yaml").is_file():
        run, checkpoint = RunFolder(path.resolve().parent.parent), path
    else:
        return path, None
    verify_checkpoint(checkpoint)
    return checkpoint, run


def check_free(out: Path) -> None:
    """Returns if the folder `out` can be written.

    Raises:
        UserError: it holds files, or is one.
    """
    if out.exists() and any(out.iterdir() if out.is_dir() else [1]):
        raise UserError(f"{out} exists already. Choose another --out, or remove it.")


def check_seed(seed: int) -> None:
    """Returns if `seed` can be sampled with.

    Raises:
        UserError: it is negative.
    """
    if seed < 0:
        raise UserError(f"--seed is {seed}. Give a number that is not negative.")
