"""Readers of dumps whose rows are padded tensors: verl, TRL and OpenRLHF."""

from typing import Any

import numpy as np
from numpy import ndarray

from steadyrl.analysis.dumps.files import Content
from steadyrl.analysis.dumps.layout import as_array, dump_of, padded_rows, ragged_row
from steadyrl.analysis.dumps.record import UNKNOWN, Dump, DumpRow
from steadyrl.base.errors import UserError

Columns = dict[str, Any]


def read_verl(content: Content, name: str) -> Dump:
    """A batch of a DataProto: prompts padded on the left, responses on the right.

    Log-probabilities and `response_mask` cover the response, `attention_mask` and `routed_experts`
    the whole row.
    """
    columns = _columns(content, name)
    responses = _table(columns, "responses", name)
    prompts = _prompts(columns, responses, name)
    width = prompts.shape[1]
    tokens = np.concatenate([prompts, responses], axis=1)
    mask = _optional(columns, ("response_mask", "loss_mask"), responses.shape, name)
    attention = _optional(columns, ("attention_mask",), tokens.shape, name)
    if attention is None:
        raise UserError(
            f"{name} has no attention_mask, so padding cannot be told from tokens. Save the whole "
            "batch: torch.save(dict(batch.batch), 'step.pt')."
        )
    return _two_part_dump(
        tokens,
        width,
        (attention[:, width:] if mask is None else mask) > 0,
        attention > 0,
        {
            "rollout_logprobs": _optional(columns, ("rollout_log_probs",), responses.shape, name),
            "trainer_logprobs": _optional(columns, ("old_log_probs",), responses.shape, name),
            "entropy": _optional(columns, ("entropys", "entropy"), responses.shape, name),
        },
        _experts(columns, "routed_experts", tokens.shape, name),
        name=name,
        format="verl",
        has_mask=mask is not None,
    )


def read_trl(content: Content, name: str) -> Dump:
    """What `GRPOTrainer` learns from: prompts padded on the left, completions on the right."""
    if isinstance(content, list):
        rows = [_trl_row(row, f"row {number} of {name}") for number, row in enumerate(content)]
        return dump_of(rows, name=name, format="trl", has_mask="completion_mask" in content[0])
    columns = _columns(content, name)
    completions = _table(columns, "completion_ids", name)
    prompts = _prompts(columns, completions, name, key="prompt_ids")
    shape, width = completions.shape, prompts.shape[1]
    tokens = np.concatenate([prompts, completions], axis=1)
    held = _optional(columns, ("completion_mask",), shape, name)
    before = _optional(columns, ("prompt_mask",), prompts.shape, name)
    if held is None or before is None:
        raise UserError(
            f"{name} has no {'completion_mask' if held is None else 'prompt_mask'}, so padding "
            "cannot be told from tokens. Save the whole output of _generate_and_score_completions."
        )
    tools = _optional(columns, ("tool_mask",), shape, name)
    counted = held > 0 if tools is None else (held > 0) & (tools > 0)
    return _two_part_dump(
        tokens,
        width,
        counted,
        np.concatenate([before > 0, held > 0], axis=1),
        {
            "rollout_logprobs": _optional(columns, ("sampling_per_token_logps",), shape, name),
            "trainer_logprobs": _optional(columns, ("old_per_token_logps",), shape, name),
        },
        None,
        name=name,
        format="trl",
        has_mask=True,
    )


def _trl_row(row: Columns, where: str) -> DumpRow:
    if row.get("prompt_ids") is None or row.get("completion_ids") is None:
        raise UserError(
            f"{where} has no prompt_ids or no completion_ids, though others have. Leave it out."
        )
    prompt = as_array(row["prompt_ids"], "prompt_ids", where).ravel()
    completion = as_array(row["completion_ids"], "completion_ids", where).ravel()
    return ragged_row(
        where,
        tokens=np.concatenate([prompt, completion]),
        response_start=len(prompt),
        mask=row.get("completion_mask"),
        columns={
            "rollout_logprobs": row.get("sampling_per_token_logps"),
            "trainer_logprobs": row.get("old_per_token_logps"),
        },
    )


def read_openrlhf(content: Content, name: str) -> Dump:
    """Tensors of an `Experience`: log-probabilities and action mask begin at the second token."""
    parts = content if isinstance(content, list) else [content]
    rows = [row for part in parts for row in _openrlhf_rows(part, name)]
    return dump_of(rows, name=name, format="openrlhf", has_mask=True)


def _openrlhf_rows(columns: Columns, name: str) -> tuple[DumpRow, ...]:
    tokens = _table(columns, "sequences", name)
    shape = (tokens.shape[0], tokens.shape[1] - 1)

    def shifted(key: str, fill: float) -> ndarray | None:
        values = _optional(columns, (key,), shape, name)
        if values is None:
            return None
        return np.pad(values.astype(np.float64), ((0, 0), (1, 0)), constant_values=fill)

    mask = shifted("action_mask", 0.0)
    assert mask is not None, "the format is known by its mask"
    attention = _optional(columns, ("attention_mask",), tokens.shape, name)
    found = {
        "rollout_logprobs": shifted("rollout_log_probs", np.nan),
        "trainer_logprobs": shifted("action_log_probs", np.nan),
    }
    return padded_rows(
        tokens=tokens,
        attention=mask > 0 if attention is None else attention > 0,
        mask=mask > 0,
        response_start=None,
        columns={key: values for key, values in found.items() if values is not None},
    )


def _two_part_dump(
    tokens: ndarray,
    width: int,
    mask: ndarray,
    attention: ndarray,
    values: dict[str, ndarray | None],
    experts: ndarray | None,
    *,
    name: str,
    format: str,
    has_mask: bool,
) -> Dump:
    """A dump of prompts of `width` positions, and responses whose values cover only these."""
    whole = ((0, 0), (width, 0))
    columns = {
        key: np.pad(column.astype(np.float64), whole, constant_values=np.nan)
        for key, column in values.items()
        if column is not None
    }
    if experts is not None:
        columns["rollout_experts"] = experts
    rows = padded_rows(
        tokens=tokens,
        attention=attention,
        mask=np.pad(mask, whole),
        response_start=width,
        columns=columns,
    )
    return dump_of(rows, name=name, format=format, has_mask=has_mask)


def _columns(content: Content, name: str) -> Columns:
    if isinstance(content, dict):
        return content
    raise UserError(f"{name} is a list of rows. Such a dump is a dictionary of padded tensors.")


def _table(columns: Columns, key: str, name: str) -> ndarray:
    if columns.get(key) is None:
        raise UserError(f"{name} has no {key}. Save the whole batch.")
    values = as_array(columns[key], key, name)
    if values.ndim != 2:
        raise UserError(f"{key} of {name} has shape {values.shape}, not (rows, positions).")
    return values


def _prompts(columns: Columns, responses: ndarray, name: str, key: str = "prompts") -> ndarray:
    """The tokens before the responses; none if the dump leaves them out."""
    if columns.get(key) is None:
        return np.zeros((len(responses), 0), dtype=np.int64)
    prompts = _table(columns, key, name)
    if len(prompts) != len(responses):
        raise UserError(f"{name} has {len(prompts)} prompts for {len(responses)} responses.")
    return prompts


def _optional(
    columns: Columns, keys: tuple[str, ...], shape: tuple[int, ...], name: str
) -> ndarray | None:
    """The first of `keys` that is there.

    Raises:
        UserError: it has another shape.
    """
    for key in keys:
        if columns.get(key) is None:
            continue
        values = as_array(columns[key], key, name)
        if values.shape != shape:
            raise UserError(
                f"{key} of {name} has shape {values.shape}, but {shape} was expected from the "
                "tokens. Save columns of one batch, after all are padded."
            )
        return values
    return None


def _experts(columns: Columns, key: str, shape: tuple[int, ...], name: str) -> ndarray | None:
    if columns.get(key) is None:
        return None
    values = as_array(columns[key], key, name)
    if values.shape[:2] != shape or values.ndim != 4:
        raise UserError(
            f"{key} of {name} has shape {values.shape}, but ({shape[0]}, {shape[1]}, layers, "
            "experts per token) was expected from the tokens."
        )
    experts = values.astype(np.int64)
    unfilled = (experts == 0).all(axis=(2, 3)) if experts.shape[3] > 1 else np.zeros(shape, bool)
    return np.where(unfilled[..., None, None], UNKNOWN, experts)
