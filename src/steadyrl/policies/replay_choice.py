"""Automatic choice of the routing replay mode of a run."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from steadyrl.records.routing import RoutingReplay

SMALLEST_DISAGREEMENT = 1e-4
"""Share of router decisions below which engine and trainer count as choosing the same experts."""

LARGEST_R2_STALENESS = 0.01
"""Staleness (k3, nats per token) above which R3 is chosen even for few mini-batches."""

STALENESS_WINDOW = 10
"""Number of steps over which staleness is averaged."""

FIRST_N_FOR_R3 = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayChoice:
    """A replay mode and the reason for it."""

    mode: RoutingReplay
    reason: str


def choose_replay(
    mini_batches: int, history: Iterable[Mapping[str, Any]], *, max_staleness: int = 0
) -> ReplayChoice:
    """Chooses by the recipe of arXiv:2512.01374 for N = `mini_batches` and the run's measurements.

    N = 1: no replay. N = 2, 3: R2. N >= 4: R3. A run with N >= 2 starts with R2, which does not
    affect the first mini-batch, and measures how far engine and trainer disagree. While they agree,
    R3 would replay the same experts as R2, so the run keeps the unbiased R2. With N < 4, a
    staleness typical of larger N switches to R3. R3 is never left again.

    Args:
        max_staleness: Number of steps by which rollouts are sampled ahead. Each makes them older
            by another N updates, so N counts once more for each, unless it is 1.
        history: Metrics of all steps, oldest first. A resumed run with the same history makes the
            same choice.
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
    if mini_batches * (1 + max_staleness) >= FIRST_N_FOR_R3:
        earlier = mini_batches * max_staleness
        older = f", sampled up to {earlier} earlier" if earlier else ""
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
    """Largest mean over a window of consecutive steps; None if there are too few steps."""
    size = STALENESS_WINDOW
    means = [sum(values[i : i + size]) / size for i in range(len(values) - size + 1)]
    return max(means, default=None)
