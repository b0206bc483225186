"""Checks and slices of the routes of completions, without copies."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from steadyrl.records.completion import Completion
from steadyrl.records.routing import Pieces, Routing, fed_tokens_checksum


def check_routing(completions: Sequence[Completion]) -> None:
    """Checks that an engine recorded routes on the tokens it returned.

    Raises:
        RuntimeError: it did not.
    """
    recorded = [(_fed(c), c.routing) for c in completions if c.routing is not None]
    if not recorded:
        return
    for fed, routing in recorded:
        if routing.known.shape != (1, len(fed)):
            raise _incomplete(routing.known, len(fed))
    known = pad_sequence([routing.known[0] for _, routing in recorded], batch_first=True)
    tokens = pad_sequence([fed for fed, _ in recorded], batch_first=True)
    expected = torch.cat([routing.fed_tokens for _, routing in recorded])
    if not torch.equal(fed_tokens_checksum(tokens, known), expected):
        raise RuntimeError("The engine recorded routing for other tokens than it returned.")


def routes_from(completion: Completion, start: int) -> Pieces | None:
    """Routes from position `start`; None if none were recorded.

    Raises:
        RuntimeError: a route is missing.
    """
    routing = completion.routing
    if routing is None:
        return None
    (known,), (pieces,) = routing.known, routing.experts
    if not bool(known[start:].all()):
        raise _incomplete(routing.known, len(known))
    before = int(known[:start].sum())
    return pieces if before == 0 else (torch.cat(pieces)[before:],)


def drop_repeated_routes(completion: Completion, before: Completion) -> Completion:
    """`completion` without routes of tokens that `before` already holds, if it continues `before`.

    Tokens keep the routes under which they were sampled, so later records of them are never read.
    """
    if completion.routing is None or before.routing is None or not continues(completion, before):
        return completion
    check_routing([completion])
    fed = _fed(completion)
    start = len(_fed(before))
    pieces = routes_from(completion, start)
    assert pieces is not None
    known = (torch.arange(len(fed)) >= start)[None]
    routing = Routing(
        experts=(tuple(piece.clone() for piece in pieces),),
        known=known,
        fed_tokens=fed_tokens_checksum(fed[None], known),
    )
    return replace(completion, routing=routing)


def continues(completion: Completion, before: Completion) -> bool:
    """Whether the prompt of `completion` begins with all tokens of `before`."""
    return starts_with(completion.prompt_ids, torch.cat([before.prompt_ids, before.token_ids]))


def starts_with(prompt: Int[Tensor, " _P"], tokens: Int[Tensor, " _T"]) -> bool:
    """Whether `prompt` begins with `tokens`."""
    return len(prompt) >= len(tokens) and torch.equal(prompt[: len(tokens)], tokens)


def _fed(completion: Completion) -> Int[Tensor, " S"]:
    return torch.cat([completion.prompt_ids, completion.token_ids])[:-1]


def _incomplete(known: Bool[Tensor, "_B _S"], fed: int) -> RuntimeError:
    return RuntimeError(
        f"The engine recorded routing of shape {tuple(known.shape)} for {fed} fed tokens. Every "
        "token but the last must have a row."
    )
