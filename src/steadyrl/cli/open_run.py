"""Opening a run for commands that inspect it."""

from pathlib import Path

from steadyrl.base.errors import UserError
from steadyrl.records.run_folder import RunFolder


def open_run(path: Path) -> RunFolder:
    """The run in the folder `path`.

    Raises:
        UserError: there is none.
    """
    folder = RunFolder(path)
    if not folder.config.exists():
        raise UserError(f"{path} is not a run folder. Give a folder that 'steadyrl train' wrote.")
    return folder


def check_seed(seed: int) -> None:
    """Returns if `seed` can be sampled with.

    Raises:
        UserError: it is negative.
    """
    if seed < 0:
        raise UserError(f"--seed is {seed}. Give a number that is not negative.")
