"""Detection of later prompts that do not extend the sampled tokens, which splits their rows."""

from collections.abc import Sequence

from torch import Tensor

from steadyrl.records.completion import Completion
from steadyrl.records.trajectory import Group

_CAUSES = (
    "earlier messages are rendered differently, for example because the template moves or dates "
    "them",
    "the reply is rendered differently, for example because the template drops thinking or spaces",
    "the turn ends with other tokens than the reply",
)


def split_note(groups: Sequence[Group]) -> str | None:
    """A sentence on how many turns begin a new row and why; None if none does.

    A split only costs time: earlier tokens are computed again, and every turn is trained on in the
    row that it was sampled in.
    """
    turns = [
        (before, after)
        for group in groups
        for episode in group.trajectories
        for before, after in zip(episode.completions, episode.completions[1:], strict=False)
    ]
    splits = [cause for before, after in turns if (cause := _cause(before, after)) is not None]
    if not splits:
        return None
    often = max(_CAUSES, key=splits.count)
    return (
        f"{len(splits)} of {len(turns)} later turns begin a new row, because their prompt does "
        f"not extend the tokens before it: {often}. Earlier tokens are computed again."
    )


def _cause(before: Completion, after: Completion) -> str | None:
    """Reason why `after` does not continue `before`; None if it does."""
    prompt, reply = len(before.prompt_ids), len(before.token_ids)
    shared = min(_common_prefix(before.prompt_ids, after.prompt_ids), prompt)
    if shared < prompt:
        return _CAUSES[0]
    written = _common_prefix(before.token_ids, after.prompt_ids[prompt:])
    if written == reply:
        return None
    return _CAUSES[1] if written < reply - 1 else _CAUSES[2]


def _common_prefix(tokens: Tensor, others: Tensor) -> int:
    """Length of the common prefix."""
    length = min(len(tokens), len(others))
    same = tokens[:length] == others[:length]
    return int(same.long().cumprod(dim=0).sum())
