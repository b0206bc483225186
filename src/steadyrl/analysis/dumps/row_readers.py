"""Readers of dumps with one record for each row: slime and miles, prime-rl, and NeMo-RL."""

from typing import Any

import numpy as np

from steadyrl.analysis.dumps.files import Content
from steadyrl.analysis.dumps.layout import as_array, as_count, dump_of, padded_rows, ragged_row
from steadyrl.analysis.dumps.record import Dump, DumpRow
from steadyrl.base.errors import UserError

Columns = dict[str, Any]

TOKEN_EXPORT_SCHEMA = 1
"""Version of prime-rl's token export that is read."""


def read_slime(content: Content, name: str) -> Dump:
    """A rollout or train dump of slime or miles, by sample.

    A train dump has the same samples with plural names: of the columns of its batch.
    """
    if not isinstance(content, dict):
        raise UserError(f"{name} is a list. slime and miles save a dictionary of samples.")
    if content.get("cp_size", 1) != 1:
        raise UserError(
            f"{name} is a slice of {content['cp_size']} context-parallel ranks, whose tokens are "
            "interleaved. Save the data with --context-parallel-size 1."
        )
    samples = content.get("samples")
    if samples is None:
        samples = _by_sample(content["rollout_data"], name)
    rows = [_slime_row(sample, f"sample {n} of {name}") for n, sample in enumerate(samples)]
    return dump_of(rows, name=name, format="slime", has_mask=True)


def _by_sample(columns: Columns, name: str) -> list[Columns]:
    """Samples of a batch that is stored by column, one entry per sample."""
    tokens = columns.get("tokens")
    if tokens is None:
        raise UserError(f"{name} has no tokens. Save it with --save-debug-train-data.")
    listed = {
        key: values
        for key, values in columns.items()
        if isinstance(values, list) and len(values) == len(tokens)
    }
    return [{key: values[n] for key, values in listed.items()} for n in range(len(tokens))]


def _slime_row(sample: Columns, where: str) -> DumpRow:
    length = sample.get("response_length", sample.get("response_lengths"))
    if length is None or sample.get("tokens") is None:
        raise UserError(
            f"{where} has no {'tokens' if length is not None else 'response_length'}. Save it with "
            "--save-debug-rollout-data or --save-debug-train-data."
        )
    mask = sample.get("loss_mask")
    return ragged_row(
        where,
        tokens=sample["tokens"],
        response_start=len(sample["tokens"]) - as_count(length, "response_length", where),
        mask=sample.get("loss_masks") if mask is None else mask,
        columns={
            "rollout_logprobs": sample.get("rollout_log_probs"),
            "trainer_logprobs": sample.get("log_probs"),
            "entropy": sample.get("entropy"),
            "rollout_experts": sample.get("rollout_routed_experts"),
        },
    )


def read_prime_rl(content: Content, name: str) -> Dump:
    """Records of the trainer's token export, whose columns all cover the whole sequence."""
    rows: list[DumpRow] = []
    for number, record in enumerate(_records(content, name, "prime-rl")):
        where = f"record {number} of {name}"
        version = record.get("schema_version", TOKEN_EXPORT_SCHEMA)
        if version != TOKEN_EXPORT_SCHEMA:
            raise UserError(
                f"{where} has schema_version {version}, and version {TOKEN_EXPORT_SCHEMA} of "
                "prime-rl's token export is known. Name its columns with --columns."
            )
        rows.extend(
            _whole_row(
                record,
                where,
                mask="loss_mask",
                rollout="inference_logprobs",
                trainer="trainer_logprobs",
                entropy="entropy",
            )
        )
    return dump_of(rows, name=name, format="prime-rl", has_mask=True)


def read_nemo_rl(content: Content, name: str) -> Dump:
    """Lines of `train_data_step*.jsonl`: each value is a batch of one row, padded on the right."""
    rows: list[DumpRow] = []
    for number, line in enumerate(_records(content, name, "nemo-rl")):
        where = f"line {number + 1} of {name}"
        record = {key: _only(line[key]) for key in line if key in _NEMO_COLUMNS}
        if not record.get("sample_loss_mask", 1):
            continue
        length = record.get("input_lengths")
        rows.extend(
            _whole_row(
                record,
                where,
                mask="token_loss_mask",
                rollout="generation_logprobs",
                trainer="prev_logprobs",
                length=None if length is None else as_count(length, "input_lengths", where),
            )
        )
    return dump_of(rows, name=name, format="nemo-rl", has_mask=True)


_NEMO_COLUMNS = frozenset(
    {
        "token_ids",
        "token_loss_mask",
        "sample_loss_mask",
        "generation_logprobs",
        "prev_logprobs",
        "input_lengths",
    }
)


def _only(value: Any) -> Any:
    """The entry of a batch of one."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _records(content: Content, name: str, format: str) -> list[Columns]:
    if isinstance(content, list):
        return content
    raise UserError(f"{name} is a dictionary. {format} writes JSON Lines: give that file.")


def _whole_row(
    record: Columns,
    where: str,
    *,
    mask: str,
    rollout: str,
    trainer: str,
    entropy: str = "",
    length: int | None = None,
) -> tuple[DumpRow, ...]:
    """A row whose columns cover prompt, response and padding; none if it has no tokens.

    Args:
        length: Tokens of the row without padding; None: there is no padding.
    """
    for key in ("token_ids", mask):
        if record.get(key) is None:
            raise UserError(f"{where} has no {key}, which such a dump has. Give the whole file.")
    tokens = as_array(record["token_ids"], "token_ids", where)[None]
    counted = as_array(record[mask], mask, where).astype(np.float64)[None] > 0
    found = {"rollout_logprobs": rollout, "trainer_logprobs": trainer, "entropy": entropy}
    columns = {
        name: as_array(record[key], key, where)[None]
        for name, key in found.items()
        if record.get(key) is not None
    }
    names = [key for key in found.values() if record.get(key) is not None]
    for key, values in zip((mask, *names), (counted, *columns.values()), strict=True):
        if values.shape != tokens.shape:
            raise UserError(
                f"{key} of {where} has {values.size} entries for {tokens.size} tokens. Both have "
                "one per token in such a dump: the file is damaged, or of another version."
            )
    held = np.arange(tokens.shape[1])[None] < (tokens.shape[1] if length is None else length)
    return padded_rows(
        tokens=tokens, attention=held, mask=counted, response_start=None, columns=columns
    )
