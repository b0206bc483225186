"""What must be true of rows, and of routing for them, before they are scored."""

from jaxtyping import Bool, Int
from torch import Tensor

from steadyrl.base.errors import UserError
from steadyrl.records.routing import Routing, fed_tokens_checksum


def check_padding(attention_mask: Bool[Tensor, "B T"]) -> None:
    """Proves that no row is padded before a token of it.

    Raises:
        UserError: one is.
    """
    before = (attention_mask[:, 1:] & ~attention_mask[:, :-1]).any(dim=1)
    if bool(before.any()):
        raise UserError(
            f"Padding stands before tokens in rows {before.nonzero().flatten().tolist()}. Put it "
            "on the right."
        )


def check_replay(
    replay: Routing, tokens: Int[Tensor, "B T"], attention_mask: Bool[Tensor, "B T"]
) -> None:
    """Proves that the routing was recorded on these very tokens and misses none that matters.

    Raises:
        RuntimeError: it was not, or does.
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
            "A shift by one position or an exchange of rows does this."
        )
    is_last = attention_mask & (attention_mask.long().flip(1).cumsum(1).flip(1) == 1)
    missing = attention_mask & ~is_last & ~replay.known
    if bool(missing.any()):
        row, position = missing.nonzero()[0].tolist()
        raise RuntimeError(
            f"Routing to replay misses {int(missing.sum())} rows that feed a prediction, the first "
            f"at sequence {row}, position {position}. Routes are never made up: record them all."
        )
