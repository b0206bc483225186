"""Records of runs as one Parquet table, for tools that know nothing of this package.

digest, seed, commit, machine, ...   what a record says of the run
studies                              the conditions of studies it belongs to: figure1-fp8/MiniRL
config.optimizer.learning_rate       a column for each setting, as the current code names it
measure.best_score                   a column for each measure of `lab.measures`
scores                               (gradient_steps, score) of each evaluation
curve.reward                         means over bins of gradient steps
configuration                        all settings as JSON
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from steadyrl.base.errors import UserError
from steadyrl.base.extras import require_extra
from steadyrl.lab.measures import MEASURES
from steadyrl.lab.records import BIN, CURVES, RunRecord, read_record

SUFFIX = ".parquet"

FACTS = (
    "digest",
    "seed",
    "commit",
    "machine",
    "seconds",
    "gradient_steps",
    "failure",
    "cold_start",
)
"""Fields of a record that become columns as they are."""


def write_parquet(results: Path, file: Path) -> int:
    """Writes the records in `results`/runs to `file`; returns how many there are.

    Raises:
        UserError: pyarrow is not installed, there are no records, or the file cannot be written.
    """
    require_extra("pyarrow", "data")
    if file.suffix != SUFFIX:
        raise UserError(f"--parquet is {file}. Give a file that ends in {SUFFIX}.")
    records = [read_record(path) for path in sorted((results / "runs").glob("*.json"))]
    if not records:
        raise UserError(f"There are no records of runs in {results / 'runs'}. Run a study first.")
    rows = [row_of(record, studies) for record, studies in _with_studies(records, results)]
    draft = file.with_name(f".{file.name}.draft")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _write(rows, draft)
        draft.replace(file)
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}.") from error
    finally:
        draft.unlink(missing_ok=True)
    return len(rows)


def row_of(record: RunRecord, studies: Sequence[str]) -> dict[str, Any]:
    """One row: values by the names of their columns."""
    settings = record.config.model_dump(mode="json")
    return {
        **{name: getattr(record, name) for name in FACTS},
        "studies": list(studies),
        **{f"config.{name}": value for name, value in flattened(settings)},
        **{f"measure.{name}": _finite(of(record)) for name, of in MEASURES.items()},
        "scores": [{"gradient_steps": step, "score": score} for step, score in record.scores],
        **{f"curve.{name}": record.curves.get(name) for name in CURVES},
        "configuration": json.dumps(settings),
    }


def flattened(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by their paths, as `optimizer.learning_rate`. Lists are one value."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def one_type(values: Iterable[Any]) -> list[Any]:
    """`values` of one type: numbers as float if any is, and as JSON where they mix otherwise."""
    values = list(values)
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} and len(kinds) == 2:
        return [None if value is None else float(value) for value in values]
    if len(kinds) <= 1 and not kinds & {list, dict}:
        return values
    return [
        value if value is None or isinstance(value, str) else json.dumps(value) for value in values
    ]


def _with_studies(
    records: Sequence[RunRecord], results: Path
) -> Iterator[tuple[RunRecord, list[str]]]:
    """Each record and the conditions that the results of studies count it to."""
    found: dict[str, list[str]] = {}
    for path in sorted(results.glob("*/results.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        for condition, runs in content["conditions"].items():
            for run in runs:
                found.setdefault(run["run"], []).append(f"{content['study']}/{condition}")
    for record in records:
        yield record, found.get(record.digest, [])


def _write(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = dict.fromkeys(name for row in rows for name in row)
    values = {
        name: [row.get(name) for row in rows]
        if name in ("studies", "scores") or name.startswith("curve.")
        else one_type(row.get(name) for row in rows)
        for name in columns
    }
    about = {"steadyrl": version("steadyrl"), "gradient_steps_per_bin": str(BIN)}
    table = pa.table({name: pa.array(column) for name, column in values.items()})
    pq.write_table(table.replace_schema_metadata(about), file)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
