"""From padded columns and ragged rows to `DumpRow`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy import ndarray

from steadyrl.analysis.dumps.record import UNKNOWN, Dump, DumpRow, coarsest
from steadyrl.base.errors import UserError

VALUES = ("rollout_logprobs", "trainer_logprobs", "entropy")
EXPERTS = ("rollout_experts", "trainer_experts")

_OF_NUMPY = (torch.float16, torch.float32, torch.float64)

_FEWEST_VALUES = 16
"""Values from which on a coarse number type is not there by chance."""


def as_array(values: Any, name: str, where: str) -> ndarray:
    """Numbers as an array; None and NaN become NaN.

    Raises:
        UserError: they are not numbers, or lists of different lengths.
    """
    if isinstance(values, torch.Tensor):
        if values.is_nested or values.layout != torch.strided:
            raise UserError(
                f"{name} of {where} is not a plain tensor. Save the batch after it is padded."
            )
        values = values.detach()
        plain = not values.is_floating_point() or values.dtype in _OF_NUMPY
        return np.asarray((values if plain else values.float()).numpy())
    try:
        array = np.asarray(values)
        if array.dtype == object or array.dtype.kind == "U":  # None, or "NaN" as a text
            array = array.astype(np.float64)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{name} of {where} is not a table of numbers: {values!r:.80}. Save it as numbers, one "
            "per token."
        ) from error
    if array.size and array.dtype.kind not in "biuf":
        raise UserError(f"{name} of {where} holds {array.dtype} in place of numbers.")
    return array


def as_count(value: Any, name: str, where: str) -> int:
    """A number of tokens.

    Raises:
        UserError: it is not a whole number, or negative.
    """
    try:
        count = int(value)
    except (TypeError, ValueError, OverflowError):
        count = -1
    if count < 0:
        raise UserError(f"{name} of {where} is {value!r:.40}, which is not a number of tokens.")
    return count


def storage_of(values: Sequence[ndarray]) -> str:
    """The coarsest number type that holds every log-probability exactly."""
    joined = [np.asarray(part, dtype=np.float64).ravel() for part in values]
    every = np.concatenate(joined) if joined else np.empty(0)
    every = every[np.isfinite(every) & (every != 0)]
    if len(every) < _FEWEST_VALUES:
        return "float32"
    with np.errstate(over="ignore"):
        if (every.astype(np.float32).view(np.uint32) & 0xFFFF == 0).all():
            return "bfloat16"
        if (every.astype(np.float16) == every).all():
            return "float16"
    return "float32"


def padded_rows(
    *,
    tokens: ndarray,
    attention: ndarray,
    mask: ndarray,
    response_start: int | None,
    columns: Mapping[str, ndarray],
) -> tuple[DumpRow, ...]:
    """Rows of padded columns of shape (rows, positions), aligned with `tokens`.

    Args:
        attention: Positions that hold tokens.
        response_start: Position at which all responses begin; None: at the first counted token.
    """
    rows = []
    for number in range(len(tokens)):
        held = np.flatnonzero(attention[number] | mask[number])
        if not len(held):
            continue
        first, last = int(held[0]), int(held[-1]) + 1
        counted = np.flatnonzero(mask[number])
        start = response_start
        if start is None:
            start = int(counted[0]) if len(counted) else last
        span = slice(first, last)
        rows.append(
            DumpRow(
                tokens=tokens[number, span].astype(np.int64),
                response_start=max(0, start - first),
                mask=mask[number, span],
                padding=~attention[number, span],
                **{name: _typed(name, column[number, span]) for name, column in columns.items()},
            )
        )
    return tuple(rows)


def _typed(name: str, values: ndarray) -> ndarray:
    return values.astype(np.int64 if name in EXPERTS else np.float64)


def dump_of(
    rows: Sequence[DumpRow], *, name: str, format: str, has_mask: bool, storage: str = ""
) -> Dump:
    """A dump whose number type is read from its log-probabilities."""
    found = []
    for column in VALUES[:2]:
        values = [part for row in rows if (part := getattr(row, column)) is not None]
        found.append(storage_of(values) if values else "float64")
    return Dump(
        rows=tuple(rows),
        name=name,
        format=format,
        has_mask=has_mask,
        storage=storage or coarsest(found),
    )


def ragged_row(
    where: str,
    *,
    tokens: Any,
    response_start: int,
    mask: Any,
    columns: Mapping[str, Any],
) -> DumpRow:
    """One row from lists. Columns may cover all tokens, the response, or all tokens but the last.

    Raises:
        UserError: a column has another length than the tokens it belongs to.
    """
    ids = as_array(tokens, "tokens", where).astype(np.int64).ravel()
    response = len(ids) - response_start
    if response_start < 0:
        raise UserError(f"{where} has {len(ids)} tokens, and a response of {response}. Save both.")
    aligned: dict[str, ndarray] = {}
    for name, values in columns.items():
        if values is None:
            continue
        array = as_array(values, name, where)
        aligned[name] = _aligned(name, array, len(ids), response, where)
    counted = np.arange(len(ids)) >= response_start
    if mask is not None:
        given = as_array(mask, "mask", where).astype(np.float64).ravel() > 0
        counted = _aligned("mask", given, len(ids), response, where).astype(bool)
    return DumpRow(
        tokens=ids,
        response_start=response_start,
        mask=counted,
        padding=np.zeros(len(ids), dtype=bool),
        **aligned,
    )


def _aligned(name: str, values: ndarray, length: int, response: int, where: str) -> ndarray:
    """Values at all `length` tokens, from those of all, of the response, or of all but the last."""
    is_experts = name in EXPERTS
    if is_experts and values.ndim != 3:
        raise UserError(
            f"{name} of {where} has {values.ndim} dimensions. Save experts as (tokens, layers, "
            "experts per token)."
        )
    if not is_experts:
        if values.ndim > 1 and values.size > max(values.shape):
            raise UserError(
                f"{name} of {where} has shape {values.shape}: several numbers for a token, as of "
                "its likeliest alternatives. Save the sampled token's alone."
            )
        values = values.ravel()
    given = len(values)
    if given == length:
        padded = values
    elif is_experts and given == length - 1:
        padded = _filled(name, values, length)
        padded[:-1] = values
    elif not is_experts and given == response:
        padded = _filled(name, values, length)
        padded[length - response :] = values
    else:
        raise UserError(
            f"{name} of {where} has {given} entries for {length} tokens, of which {response} are "
            "the response. Save one entry per token, or one per token of the response."
        )
    return padded if name == "mask" else _typed(name, padded)


def _filled(name: str, values: ndarray, length: int) -> ndarray:
    if name == "mask":
        return np.zeros(length, dtype=bool)
    kind, fill = (np.int64, UNKNOWN) if name in EXPERTS else (np.float64, np.nan)
    return np.full((length, *values.shape[1:]), fill, dtype=kind)
