"""Conversion of trajectories to padded token rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from steadyrl.records.candidates import Candidates
from steadyrl.records.completion import Completion
from steadyrl.records.routing import Pieces, Routing, fed_tokens_checksum
from steadyrl.records.support import Support
from steadyrl.records.token_batch import TokenBatch
from steadyrl.records.trajectory import Group, Trajectory
from steadyrl.rollout.routes import check_routing, routes_from, starts_with


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A sequence of `T` tokens."""

    tokens: Int[Tensor, " T"]
    loss_mask: Bool[Tensor, " T"]
    rollout_logprobs: Float[Tensor, " T"]
    routes: Pieces | None
    """Routes of all tokens but the last."""

    support: Support | None
    """Supports of the loss tokens; None: the whole vocabulary."""

    candidates: Candidates | None
    """Candidates of the loss tokens; None: not recorded."""


def token_batch(
    groups: Sequence[Group], advantages: Sequence[Float[Tensor, " _G"]], *, pad_token_id: int
) -> TokenBatch:
    """The rows of all trajectories, with the advantage of the trajectory at each of its tokens.

    Each trajectory is one response. It is one row as long as the prompt of each turn extends the
    tokens before it; otherwise a new row begins. Tokens of the environment carry no loss.

    Args:
        advantages: Advantages of the trajectories of each group.
    """
    episodes = [trajectory for group in groups for trajectory in group.trajectories]
    check_routing([c for episode in episodes for c in episode.completions])
    credits = [credit for values in advantages for credit in values.tolist()]
    groups_of = [number for number, group in enumerate(groups) for _ in group.trajectories]
    rows: list[_Row] = []
    responses: list[int] = []
    for number, trajectory in enumerate(episodes):
        trajectory_rows = _rows(trajectory)
        rows += trajectory_rows
        responses += [number] * len(trajectory_rows)
    return _pad_rows(
        rows,
        [credits[response] for response in responses],
        group_ids=[groups_of[response] for response in responses],
        response_ids=responses,
        pad_token_id=pad_token_id,
    )


def _rows(trajectory: Trajectory) -> list[_Row]:
    rows: list[_Row] = []
    for completion in trajectory.completions:
        if rows and starts_with(completion.prompt_ids, rows[-1].tokens):
            rows[-1] = _extend(rows[-1], completion)
        else:
            rows.append(_row(completion, routes_from(completion, 0)))
    return rows


def _row(completion: Completion, routes: Pieces | None) -> _Row:
    prompt, response = completion.prompt_ids, completion.token_ids
    return _Row(
        tokens=torch.cat([prompt, response]),
        loss_mask=_mask(len(prompt), len(response)),
        rollout_logprobs=torch.cat([torch.zeros(len(prompt)), completion.logprobs]),
        routes=routes,
        support=completion.support,
        candidates=completion.candidates,
    )


def _extend(row: _Row, completion: Completion) -> _Row:
    """`row` extended by another turn. Tokens keep the routes under which they were sampled."""
    before = len(row.tokens)
    turn = _row(completion, routes_from(completion, before - 1))
    routes = None
    if row.routes is not None and turn.routes is not None:
        routes = (*row.routes, *turn.routes)
    return _Row(
        tokens=turn.tokens,
        loss_mask=torch.cat([row.loss_mask, turn.loss_mask[before:]]),
        rollout_logprobs=torch.cat([row.rollout_logprobs, turn.rollout_logprobs[before:]]),
        routes=routes,
        support=_joined([row, turn]),
        candidates=_joined_candidates([row, turn]),
    )


def _joined(rows: Sequence[_Row]) -> Support | None:
    """Supports of the loss tokens of all `rows`."""
    supports = _supports(rows)
    return None if supports is None else Support.joined(supports)


def _supports(rows: Sequence[_Row]) -> tuple[Support, ...] | None:
    """Supports of the loss tokens of each row; None if none was sampled from a truncated one."""
    if all(row.support is None for row in rows):
        return None
    return tuple(row.support or Support.whole(int(row.loss_mask.sum())) for row in rows)


def _joined_candidates(rows: Sequence[_Row]) -> Candidates | None:
    """Candidates of the loss tokens of all `rows`."""
    candidates = _candidates(rows)
    return None if candidates is None else Candidates.joined(candidates)


def _candidates(rows: Sequence[_Row]) -> tuple[Candidates, ...] | None:
    """Candidates of the loss tokens of each row; None if some row has none."""
    known = tuple(row.candidates for row in rows if row.candidates is not None)
    return known if len(known) == len(rows) else None


def _mask(prompt_length: int, response_length: int) -> Bool[Tensor, " T"]:
    return torch.arange(prompt_length + response_length) >= prompt_length


def _pad_rows(
    rows: Sequence[_Row],
    advantages: Sequence[float],
    *,
    group_ids: Sequence[int],
    response_ids: Sequence[int],
    pad_token_id: int,
) -> TokenBatch:
    tokens = pad_sequence([r.tokens for r in rows], batch_first=True, padding_value=pad_token_id)
    loss_mask = pad_sequence([row.loss_mask for row in rows], batch_first=True)
    lengths = torch.tensor([len(row.tokens) for row in rows])
    return TokenBatch(
        tokens=tokens,
        attention_mask=torch.arange(tokens.shape[1]) < lengths[:, None],
        loss_mask=loss_mask,
        group_ids=torch.tensor(group_ids),
        response_ids=torch.tensor(response_ids),
        advantages=torch.tensor(advantages)[:, None] * loss_mask,
        rollout_logprobs=pad_sequence([row.rollout_logprobs for row in rows], batch_first=True),
        rollout_routing=_routing(rows, tokens),
        support=_supports(rows),
        candidates=_candidates(rows),
    )


def _routing(rows: Sequence[_Row], tokens: Int[Tensor, "B T"]) -> Routing | None:
    routes = [row.routes for row in rows if row.routes is not None]
    if len(routes) < len(rows):
        return None
    fed = torch.tensor([len(row.tokens) - 1 for row in rows])
    known = torch.arange(tokens.shape[1]) < fed[:, None]
    return Routing(
        experts=tuple(routes), known=known, fed_tokens=fed_tokens_checksum(tokens, known)
    )
