"""Checks of token rows and their routing before scoring."""

from jaxtyping import Bool, Int
from torch import Tensor

from steadyrl.base.errors import UserError
from steadyrl.records.routing import Routing, fed_tokens_checksum


def check_padding(attention_mask: Bool[Tensor, "B T"]) -> None:
    """Checks that padding is on the right.

    Raises:
        UserError: a row has padding before a token.
    """
    before = (attention_mask[:, 1:] & ~attention_mask[:, :-1]).any(dim=1)
    if bool(before.any()):
        raise UserError(
            f"Padding precedes tokens in rows {before.nonzero().flatten().tolist()}. Pad on the "
            "right."
        )


def check_replay(
    replay: Routing, tokens: Int[Tensor, "B T"], attention_mask: Bool[Tensor, "B T"]
) -> None:
    """Checks that the routing was recorded on these tokens and covers every required token.

    Raises:
        RuntimeError: tokens differ, or routing is missing.
    """
    if replay.known.shape != tokens.shape:
        raise RuntimeError(
            f"Routing of shape {tuple(replay.known.shape)} for tokens {tuple(tokens.shape)}."
        )
    fed = fed_tokens_checksum(tokens, replay.known)
    wrong = (fed != replay.fed_tokens.to(fed.device)).nonzero().flatten().tolist()
    if wrong:
        raise RuntimeError(
            f"Routing was recorded on other tokens than it is replayed on, in rows {wrong}. "
            "Typical causes are a shift by one position or swapped rows."
        )
    is_last = attention_mask & (attention_mask.long().flip(1).cumsum(1).flip(1) == 1)
    missing = attention_mask & ~is_last & ~replay.known
    if bool(missing.any()):
        row, position = missing.nonzero()[0].tolist()
        raise RuntimeError(
            f"Routing to replay misses {int(missing.sum())} rows that feed a prediction, the first "
            f"at sequence {row}, position {position}. Routes are never made up: record them all."
        )
