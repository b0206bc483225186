"""Routing of the forward passes that a training loop makes itself, `generate` included.

A pass is noticed when it embeds its tokens. So the passes need not be announced, and the tokens
they feed are known: whatever is recorded carries their checksum, and whatever is replayed is
checked against it.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Int, Integer
from torch import Tensor

from steadyrl.base.errors import UserError
from steadyrl.policies.row_checks import check_replay
from steadyrl.records.routing import PaddedRouting, Routing


class RoutingRecord:
    """Experts used by one or several forward passes, and the tokens that were fed to them.

    The passes are pieces of the same rows one after another, as in `generate`, or batches of whole
    rows, as in scoring.
    """

    def __init__(self) -> None:
        self._tokens: list[Int[Tensor, "b S"]] = []
        self._experts: list[Integer[Tensor, "b S L K"]] = []

    def add(self, tokens: Int[Tensor, "b S"], experts: Integer[Tensor, "b S L K"]) -> None:
        """Appends a forward pass."""
        self._tokens.append(tokens)
        self._experts.append(experts)

    def routing(
        self, tokens: Int[Tensor, "B T"], attention_mask: Integer[Tensor, "B T"]
    ) -> Routing:
        """The experts used at the `tokens` of the attention mask.

        Tokens at the end of a row that were sampled but never fed have no routing.

        Args:
            tokens: The rows as they were fed, padding included, for example the result of
                `generate`.

        Raises:
            UserError: the passes are not pieces or batches of these rows.
            RuntimeError: other tokens were fed.
        """
        dim = self._joining_dim(tokens.shape)
        fed, experts = torch.cat(self._tokens, dim), torch.cat(self._experts, dim)
        length = min(fed.shape[1], tokens.shape[1])
        known = attention_mask.bool().clone()
        known[:, length:] = False
        other = (fed[:, :length] != tokens[:, :length]) & known[:, :length]
        if bool(other.any()):
            raise RuntimeError(
                "Routing was recorded on other tokens than these, in rows "
                f"{other.any(dim=1).nonzero().flatten().tolist()}. Typical causes are swapped rows "
                "and another padding."
            )
        padded = experts.new_zeros(*tokens.shape, *experts.shape[2:])
        padded[:, :length] = experts[:, :length]
        return Routing.of(padded, known, tokens)

    def _joining_dim(self, shape: tuple[int, ...]) -> int:
        """The dimension along which the passes continue each other: 0 for rows, 1 for tokens."""
        rows, lengths = (
            zip(*(part.shape for part in self._tokens), strict=True) if self._tokens else ((), ())
        )
        if sum(rows) == shape[0] and set(lengths) == {shape[1]}:
            return 0
        if set(rows) == {shape[0]} and sum(lengths) >= shape[1] - 1:
            return 1
        raise UserError(
            f"Routing was recorded in passes over {[tuple(part.shape) for part in self._tokens]} "
            f"tokens, which are not batches or pieces of rows of shape {tuple(shape)}. Generate "
            "with a key-value cache, by sampling or greedily, without beams and assistant models."
        )


class RowsToReplay:
    """Hands each forward pass its rows of a routing, in order."""

    def __init__(self, routing: Routing, attention_mask: Integer[Tensor, "B T"]) -> None:
        self._routing = routing
        self._mask = attention_mask.bool()
        self._rows = 0

    def next(self, tokens: Int[Tensor, "b S"]) -> PaddedRouting:
        """The routing of a forward pass over `tokens`.

        Raises:
            RuntimeError: it was recorded on other tokens, or misses a token.
        """
        first, self._rows = self._rows, self._rows + len(tokens)
        if self._rows > len(self._mask):
            raise RuntimeError(
                f"Routing of {len(self._mask)} rows is replayed on {self._rows}. Make one pass "
                "over each row inside `replay`."
            )
        index = torch.arange(first, self._rows)
        rows = self._routing.rows(index, self._mask.shape[1]).to(tokens.device)
        check_replay(rows, tokens, self._mask[index].to(tokens.device))
        return rows.padded()

    def finish(self) -> None:
        """Checks that every row was replayed.

        Raises:
            RuntimeError: rows are left.
        """
        if self._rows < len(self._mask):
            raise RuntimeError(
                f"Routing of {len(self._mask)} rows was replayed on {self._rows}. Make one pass "
                "over each row inside `replay`."
            )


def embedded_tokens(begin: Callable[[Tensor], None]) -> Callable[[Any, Any, Any], None]:
    """A forward pre-hook of an embedding that passes its tokens to `begin`."""

    def embed(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        begin(args[0] if args else kwargs["input"])

    return embed
