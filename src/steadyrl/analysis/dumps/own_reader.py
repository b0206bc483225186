"""Reader of our own layout, and of any other by a map of columns.

tokens              token ids of prompt and response
response_mask       1 at tokens that the policy sampled
rollout_logprobs    log-probabilities of the engine
trainer_logprobs    log-probabilities of the trainer, before the update
entropy             of the trainer's distribution, in nats
routed_experts      experts of the engine: tokens (or all but the last), layers, experts per token
trainer_experts     experts of the trainer
response_length     number of tokens after the prompt; the rest follows from the mask

Rows of JSON Lines and Parquet are ragged. Columns of safetensors and .pt files are padded on the
right, and `lengths` holds the number of tokens of each row.
"""

from typing import Any

import numpy as np
from numpy import ndarray

from steadyrl.analysis.dumps.files import Content
from steadyrl.analysis.dumps.layout import as_array, as_count, dump_of, ragged_row
from steadyrl.analysis.dumps.record import Dump, DumpRow
from steadyrl.base.errors import UserError

OWN_COLUMNS = (
    "tokens",
    "response_mask",
    "rollout_logprobs",
    "trainer_logprobs",
    "entropy",
    "routed_experts",
    "trainer_experts",
    "response_length",
    "lengths",
)

_VALUES = ("rollout_logprobs", "trainer_logprobs", "entropy")


def read_own(content: Content, name: str) -> Dump:
    """Rows of our own layout.

    Raises:
        UserError: there are no tokens, or columns of different lengths.
    """
    rows = content if isinstance(content, list) else _split(content, name)
    has_mask = bool(rows) and rows[0].get("response_mask") is not None
    read = [_row(row, f"row {number} of {name}") for number, row in enumerate(rows)]
    return dump_of(read, name=name, format="steadyrl", has_mask=has_mask)


def _row(row: dict[str, Any], where: str) -> DumpRow:
    if row.get("tokens") is None:
        raise UserError(
            f"{where} has no tokens. Name the column with --columns '{{tokens: NAME}}'."
        )
    tokens = as_array(row["tokens"], "tokens", where).ravel()
    return ragged_row(
        where,
        tokens=tokens,
        response_start=_response_start(row, len(tokens), where),
        mask=row.get("response_mask"),
        columns={
            **{name: row.get(name) for name in _VALUES},
            "rollout_experts": row.get("routed_experts"),
            "trainer_experts": row.get("trainer_experts"),
        },
    )


def _response_start(row: dict[str, Any], length: int, where: str) -> int:
    """Tokens before the response: by its length, its mask, or the length of what covers it."""
    if row.get("response_length") is not None:
        return length - as_count(row["response_length"], "response_length", where)
    if row.get("response_mask") is not None:
        mask = as_array(row["response_mask"], "response_mask", where).astype(float).ravel() > 0
        before = length - len(mask)
        return before + (int(np.argmax(mask)) if mask.any() and before == 0 else 0)
    for name in _VALUES:
        if row.get(name) is not None:
            values = as_array(row[name], name, where).astype(float).ravel()
            if len(values) < length:
                return length - len(values)
            recorded = np.isfinite(values) & (values != 0)
            return int(np.argmax(recorded)) if recorded.any() else 0
    return 0


def _split(columns: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Padded columns, or lists of ragged ones, as rows."""
    if columns.get("tokens") is None:
        raise UserError(f"{name} has no tokens. Name the column with --columns '{{tokens: NAME}}'.")
    tokens = columns["tokens"]
    if isinstance(tokens, list) and len({len(row) for row in tokens if isinstance(row, list)}) > 1:
        return _listed(columns, len(tokens), name)
    found = {
        key: as_array(values, key, name)
        for key, values in columns.items()
        if key in OWN_COLUMNS and values is not None
    }
    tokens = found["tokens"]
    if tokens.ndim != 2:
        raise UserError(f"tokens of {name} have shape {tokens.shape}, not (rows, positions).")
    for key, values in found.items():
        if len(values) != len(tokens):
            raise UserError(f"{key} of {name} has {len(values)} rows, tokens have {len(tokens)}.")
    lengths = found.pop("lengths", np.full(len(tokens), tokens.shape[1])).astype(int).ravel()
    return [_ragged(found, number, int(length)) for number, length in enumerate(lengths)]


def _listed(columns: dict[str, Any], rows: int, name: str) -> list[dict[str, Any]]:
    kept = {key: values for key, values in columns.items() if key in OWN_COLUMNS and values}
    for key, values in kept.items():
        if not isinstance(values, list) or len(values) != rows:
            raise UserError(f"{key} of {name} is not a list of {rows} rows, as tokens are.")
    return [{key: values[number] for key, values in kept.items()} for number in range(rows)]


def _ragged(columns: dict[str, ndarray], number: int, length: int) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for key, values in columns.items():
        row[key] = values[number] if values.ndim == 1 else values[number][:length]
    return row
