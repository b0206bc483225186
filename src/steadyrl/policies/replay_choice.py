"""Which routing replay a run uses when it is left to choose."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from steadyrl.records.routing import RoutingReplay

SMALLEST_DISAGREEMENT = 1e-4
"""Share of router decisions. Below it the engine's experts are the trainer's."""

LARGEST_R2_STALENESS = 0.01
"""Nats per token, as k3. Above it a run with few mini-batches is as stale as one with many."""

STALENESS_WINDOW = 10
"""Steps over which staleness is averaged before it decides anything."""

FIRST_N_FOR_R3 = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayChoice:
    """A mode and why it was chosen."""

    mode: RoutingReplay
    reason: str


def choose_replay(
    mini_batches: int, history: Iterable[Mapping[str, Any]], *, overlap: bool = False
) -> ReplayChoice:
    """The recipe of arXiv:2512.01374 for `mini_batches`, corrected by what the run has measured.

    N = 1: no replay. N = 2, 3: R2. N >= 4: R3. A run with N >= 2 begins under R2, which leaves the
    first mini-batch as it is and shows how far engine and trainer disagree: as long as they do not,
    R3 would replay what R2 replays, and the unbiased R2 stays. With N < 4, a measured staleness as
    of larger N leads to R3. Under R3 a run stays. With `overlap` a rollout is N updates older than
    its update's first, so N counts twice, where there is anything to replay.

    Args:
        history: The metrics of every step taken, oldest first. A resumed run with the same history
            makes the same choice.
    """
    steps = [row for row in history if "staleness_kl_k3" in row]
    if mini_batches == 1:
        reason = "with one gradient step a rollout R2 would replay what is chosen anyway"
        return ReplayChoice(mode=RoutingReplay.NONE, reason=reason)
    if not steps:
        reason = "the first step measures how far engine and trainer disagree"
        return ReplayChoice(mode=RoutingReplay.R2, reason=reason)
    disagreement = max(row.get("routing_disagreement", 0.0) for row in steps)
    if disagreement < SMALLEST_DISAGREEMENT:
        reason = f"engine and trainer disagreed in {disagreement:.2%} of router decisions at most"
        return ReplayChoice(mode=RoutingReplay.R2, reason=reason)
    measured = f"engine and trainer disagreed in {disagreement:.1%} of router decisions"
    if mini_batches * (2 if overlap else 1) >= FIRST_N_FOR_R3:
        older = ", sampled as many earlier" if overlap else ""
        reason = f"{mini_batches} gradient steps a rollout{older}, and {measured}"
        return ReplayChoice(mode=RoutingReplay.R3, reason=reason)
    stalest = _largest_mean([row["staleness_kl_k3"] for row in steps])
    if stalest is None:
        reason = f"{mini_batches} gradient steps a rollout, staleness not yet averaged"
        return ReplayChoice(mode=RoutingReplay.R2, reason=reason)
    if stalest > LARGEST_R2_STALENESS:
        reason = f"staleness reached {stalest:.3f} nats a token, and {measured}"
        return ReplayChoice(mode=RoutingReplay.R3, reason=reason)
    reason = f"{mini_batches} gradient steps a rollout, staleness up to {stalest:.4f} nats a token"
    return ReplayChoice(mode=RoutingReplay.R2, reason=reason)


def _largest_mean(values: list[float]) -> float | None:
    """The largest mean of a whole window in a row; None while there is none."""
    size = STALENESS_WINDOW
    means = [sum(values[i : i + size]) / size for i in range(len(values) - size + 1)]
    return max(means, default=None)
