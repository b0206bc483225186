"""Options of commands that read runs of this package and logs of other trainers."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from steadyrl.analysis.foreign import AUTO, ForeignRun, read_foreign_run
from steadyrl.base.errors import UserError
from steadyrl.base.settings import Settings
from steadyrl.cli.option_names import Positional
from steadyrl.records.run_folder import RunFolder

Format = Literal[
    "auto",
    "steadyrl",
    "trl",
    "verl",
    "slime",
    "miles",
    "openrlhf",
    "prime-rl",
    "nemo-rl",
    "columns",
]
"""Who wrote a log: `auto`, or a name of `steadyrl.analysis.foreign.TRAINERS`."""


class LogOptions(Settings):
    """What is read, and as what."""

    run: Annotated[Path, Positional()]
    """The run folder, or the log of another trainer: a file, or the folder that holds it. The run
    may still be going on."""

    format: Format = "auto"
    """Trainer that wrote the log. auto recognizes it by the names of its metrics; columns knows
    only those that --columns names."""

    columns: tuple[str, ...] = ()
    """Columns of the log that hold our metrics, such as reward=train/reward step=global_step."""

    updates_per_rollout: Annotated[int, Field(ge=1)] | None = None
    """Optimizer steps for each rollout, where the log does not say."""

    def foreign_run(self) -> ForeignRun | None:
        """The run of another trainer; None if the path is a run folder of this package.

        Raises:
            UserError: there is neither.
        """
        folder = RunFolder(self.run)
        try:
            ours = folder.config.is_file() and self.format in (AUTO, "steadyrl")
        except OSError as error:
            raise UserError(f"{self.run} cannot be read: {error.strerror or error}.") from error
        if ours and not self.columns:
            return None
        return read_foreign_run(
            self.run,
            trainer=self.format,
            columns=self.columns,
            updates_per_rollout=self.updates_per_rollout,
        )
