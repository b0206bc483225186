"""Rows of a run's JSON Lines files, checked as they are read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from steadyrl.base.errors import UserError
from steadyrl.records.run_folder import RunFolder, read_json_lines


class Row(BaseModel):
    """The fields of a row that a report reads. Others, and those that are null, are ignored."""

    model_config = ConfigDict(frozen=True, strict=True)


AnyRow = TypeVar("AnyRow", bound=Row)


def read_rows(kind: type[AnyRow], path: Path) -> list[AnyRow]:
    """The rows of a file.

    Raises:
        UserError: a field is missing or of another type.
    """
    rows = enumerate(read_json_lines(path), start=1)
    return [checked(kind, row, f"Row {number} of {path}") for number, row in rows]


def checked(kind: type[AnyRow], row: Mapping[str, Any], origin: str) -> AnyRow:
    """The row as a `kind`. An error message begins with `origin`."""
    try:
        return kind.model_validate({k: value for k, value in row.items() if value is not None})
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        raise UserError(
            f'{origin} has no usable "{name}", got {row.get(name)!r}. '
            "Remove that row, or the file, and report again."
        ) from error


def completions_by_step(folder: RunFolder, name: str) -> list[tuple[int, Path]]:
    """The completions files of `name`, such as a stage, each with its step, in order."""
    steps = [(path.stem.removeprefix(f"{name}-"), path) for path in folder.completions.glob("*")]
    return sorted((int(step), path) for step, path in steps if step.isdigit())
