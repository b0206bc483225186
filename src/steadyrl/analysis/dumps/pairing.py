"""The same responses in the dumps of engine and trainer."""

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy import ndarray

from steadyrl.analysis.dumps.formats import setting_of
from steadyrl.analysis.dumps.record import Dump, DumpRow, Pairing, coarsest, with_rollout
from steadyrl.base.errors import UserError

FEWEST_MATCHED = 0.5
"""Share of the shorter dump's responses that the other one must have."""

Match = tuple[DumpRow, DumpRow]
"""Rows of the engine and of the trainer."""


def pair(first: Dump, second: Dump | None = None) -> Pairing:
    """Rows with the log-probabilities of both engine and trainer.

    Args:
        first: The engine's dump, or one with both columns.
        second: The trainer's dump.

    Raises:
        UserError: a column is in neither dump, or the dumps are of different rollouts.
    """
    if second is None:
        return _alone(first)
    notes: list[str] = []
    if not first.has_rollout and second.has_rollout:
        first, second = second, first
        notes.append(f"{first.name} is the engine's dump and {second.name} the trainer's.")
    _require(first, engine=True)
    _require(second, engine=False)
    matched, how = _match(first, second)
    notes += how
    rows = [_common(with_rollout(trainer, engine), engine) for engine, trainer in matched]
    return _complete(
        Pairing(
            rows=tuple(rows),
            engine_prompts=tuple(engine.prompt for engine, _ in matched),
            has_both_prompts=True,
            storage=coarsest([first.storage, second.storage]),
            has_mask=second.has_mask or first.has_mask,
            notes=(*first.notes, *second.notes, *notes),
        )
    )


def _alone(dump: Dump) -> Pairing:
    _require(dump, engine=True)
    _require(dump, engine=False)
    return _complete(
        Pairing(
            rows=dump.rows,
            engine_prompts=tuple(row.prompt for row in dump.rows),
            has_both_prompts=False,
            storage=dump.storage,
            has_mask=dump.has_mask,
            notes=dump.notes,
        )
    )


def _complete(pairing: Pairing) -> Pairing:
    """The rows with log-probabilities of both sides: what was aborted may have none."""
    kept = [
        (row, prompt)
        for row, prompt in zip(pairing.rows, pairing.engine_prompts, strict=True)
        if row.rollout_logprobs is not None and row.trainer_logprobs is not None
    ]
    missing = len(pairing.rows) - len(kept)
    if not missing:
        return pairing
    if not kept:
        raise UserError(
            "No row has log-probabilities of both engine and trainer. Give dumps of one step, in "
            "which the same rows have them."
        )
    note = f"{missing} of {len(pairing.rows)} rows lack the log-probabilities of a side."
    return replace(
        pairing,
        rows=tuple(row for row, _ in kept),
        engine_prompts=tuple(prompt for _, prompt in kept),
        notes=(*pairing.notes, note),
    )


def _require(dump: Dump, *, engine: bool) -> None:
    if not dump.rows:
        raise UserError(f"{dump.name} has no rows. Give a dump of a step that sampled something.")
    if dump.has_rollout if engine else dump.has_trainer:
        return
    whose, other = ("engine", "trainer") if engine else ("trainer", "engine")
    raise UserError(
        f"{dump.name} ({dump.format}) has no log-probabilities of the {whose}. "
        f"{setting_of(dump.format)} Or give the dump of the {other} as well: steadyrl "
        "compare-dumps ENGINE TRAINER."
    )


def _common(row: DumpRow, engine: DumpRow) -> DumpRow:
    """`row`, counting only tokens up to the end of the engine's response."""
    end = row.response_start + len(engine.response)
    return replace(row, mask=row.mask & (np.arange(len(row.tokens)) < end))


def _match(first: Dump, second: Dump) -> tuple[list[Match], list[str]]:
    matched = _in_order(first, second)
    if matched is not None:
        shorter = sum(len(a.response) != len(b.response) for a, b in matched)
        if not shorter:
            return matched, []
        return matched, [f"{shorter} responses have other lengths in the two dumps; the common "
                         "beginning is compared."]  # fmt: skip
    for key in (_whole, _response):
        found = _by_key(first, second, key)
        if len(found) >= FEWEST_MATCHED * min(len(first.rows), len(second.rows)):
            return found, _left_out(first, second, len(found))
    fewest = min(len(first.rows), len(second.rows))
    raise UserError(
        f"{first.name} and {second.name} are of different rollouts, or tokenized differently: "
        f"{fewest - len(found)} of {fewest} responses are not in both. Give two dumps of one step "
        "with the token ids of one tokenizer."
    )


def _in_order(first: Dump, second: Dump) -> list[Match] | None:
    """Rows by number, if nearly all of them have one response, or the beginning of one."""
    if len(first.rows) != len(second.rows):
        return None
    matched = list(zip(first.rows, second.rows, strict=True))
    same = [_begins_alike(_text(a), _text(b)) for a, b in matched]
    if np.mean(same) < 0.95:
        return None
    return [rows for rows, alike in zip(matched, same, strict=True) if alike]


def _begins_alike(one: ndarray, other: ndarray) -> bool:
    length = min(len(one), len(other))
    return length > 0 and bool((one[:length] == other[:length]).all())


def _text(row: DumpRow) -> ndarray:
    """The response without padding."""
    return row.response[~row.padding[row.response_start :]]


def _whole(row: DumpRow) -> bytes:
    return np.concatenate([row.prompt, [-1], _text(row)]).tobytes()


def _response(row: DumpRow) -> bytes:
    return _text(row).tobytes()


def _by_key(first: Dump, second: Dump, key: Callable[[DumpRow], bytes]) -> list[Match]:
    """Rows with equal keys; of several, in their order."""
    waiting: dict[bytes, deque[DumpRow]] = defaultdict(deque)
    for row in first.rows:
        waiting[key(row)].append(row)
    return [(waiting[key(row)].popleft(), row) for row in second.rows if waiting.get(key(row))]


def _left_out(first: Dump, second: Dump, matched: int) -> list[str]:
    notes = ["Rows were paired by their tokens, since their order differs."]
    for dump in (first, second):
        if len(dump.rows) > matched:
            left = len(dump.rows) - matched
            notes.append(f"{left} of {len(dump.rows)} rows of {dump.name} are not in the other.")
    return notes
