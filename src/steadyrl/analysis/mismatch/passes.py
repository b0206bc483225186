"""A batch rescored with one thing changed at a time, along two paths from mu_old to pi_theta.

    mu_old           as recorded in the rollout, with the engine's routes
      | decoding         the same in one pass over each row, without a key-value cache
      | numerics         the trainer's arithmetic
      | routing          the trainer's routes
    pi_old           the first factor of arXiv:2512.01374, equation 6, ends here
      | weights          the new weights
      | stale routing    the routes that these choose
    pi_theta         the second factor ends here

The other path changes the routes first in each factor.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from steadyrl.analysis.mismatch.layers import watch_margins
from steadyrl.base.errors import UserError
from steadyrl.objectives import sets_differ
from steadyrl.policies.policy import Policy
from steadyrl.policies.token_scores import TokenScores
from steadyrl.records.routing import Routing
from steadyrl.records.token_batch import TokenBatch

MU, OLD, NEW = "mu_old", "pi_old", "pi_theta"


class Pass(NamedTuple):
    """One scoring of the batch: by which policy, under whose routes."""

    policy: str
    routes: str


class Source(StrEnum):
    """Sources of mismatch; each step changes one."""

    DECODING = "decoding"
    """Decoding with a key-value cache to one pass over the row. With `top_p` below 1, also the
    sampled nucleus to the full distribution."""

    NUMERICS = "numerics"
    """The engine's arithmetic to the trainer's."""

    ROUTING = "routing"
    """The engine's experts to those that the trainer chooses with the same weights."""

    WEIGHTS = "weights"
    """The sampling weights to the new ones."""

    STALE_ROUTING = "stale_routing"
    """The experts chosen with the sampling weights to those chosen with the new ones."""


class Order(StrEnum):
    """Order in which the steps of each factor are taken."""

    ROUTES_LAST = "routes_last"
    """The sources that R2 and R3 remove come last."""

    ROUTES_FIRST = "routes_first"


Path = tuple[tuple[Source, Pass], ...]
"""Steps in order, each with the pass it leads to. The first leaves from the recorded mu_old."""

PATHS: dict[Order, Path] = {
    Order.ROUTES_LAST: (
        (Source.DECODING, Pass(MU, MU)),
        (Source.NUMERICS, Pass(OLD, MU)),
        (Source.ROUTING, Pass(OLD, OLD)),
        (Source.WEIGHTS, Pass(NEW, OLD)),
        (Source.STALE_ROUTING, Pass(NEW, NEW)),
    ),
    Order.ROUTES_FIRST: (
        (Source.DECODING, Pass(MU, MU)),
        (Source.ROUTING, Pass(MU, OLD)),
        (Source.NUMERICS, Pass(OLD, OLD)),
        (Source.STALE_ROUTING, Pass(OLD, NEW)),
        (Source.WEIGHTS, Pass(NEW, NEW)),
    ),
}
UNROUTED: dict[Order, Path] = {
    Order.ROUTES_LAST: (
        (Source.DECODING, Pass(MU, MU)),
        (Source.NUMERICS, Pass(OLD, OLD)),
        (Source.WEIGHTS, Pass(NEW, NEW)),
    )
}
"""Without routers there are no routes to change first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescored:
    """The `N` loss tokens of a batch in every pass."""

    rollout_logprobs: Float[Tensor, " N"]
    """Recorded log-probabilities, in float64 like those of the passes, to keep all digits."""

    logprobs: Mapping[Pass, Float[Tensor, " N"]]

    flips: Mapping[Source, Bool[Tensor, "N L"]]
    """For each source that changes routes: where the experts of the token before each loss token
    are not those of pi_old. Empty where no routers are hooked."""

    margins: Float[Tensor, "N L"]
    """Margins of the choices of pi_old."""

    @property
    def end(self) -> str:
        """The last policy: pi_theta, or pi_old if there are no newer weights."""
        return NEW if Pass(NEW, NEW) in self.logprobs else OLD

    @property
    def paths(self) -> dict[Order, Path]:
        """The paths whose passes are there. Without that of the engine over whole rows, decoding
        counts toward the step after it.
        """
        paths = {}
        for order, path in _paths(routed=bool(self.flips), stale=self.end == NEW).items():
            steps = tuple(step for step in path if step[1] in self.logprobs)
            if len(steps) >= len(path) - (Pass(MU, MU) not in self.logprobs):
                paths[order] = steps
        return paths

    def steps(self, order: Order) -> dict[Source, tuple[Tensor, Tensor]]:
        """Log-probabilities before and after each step, by token.

        What is after a step is before the next one, so the log-ratios of all steps add up to
        log(pi_theta / mu_old).
        """
        found, before = {}, self.rollout_logprobs
        for source, step in self.paths[order]:
            found[source] = (before, self.logprobs[step])
            before = self.logprobs[step]
        return found


@torch.no_grad()
def rescore(
    batch: TokenBatch,
    *,
    engine: Policy,
    old: Policy,
    new: Policy | None = None,
    temperature: float = 1.0,
    positions: int = 16384,
) -> Rescored:
    """The loss tokens of `batch` in every pass of both paths.

    Args:
        batch: Sampled by an engine with the weights of `old`, its routes recorded if `old` has any.
        engine: Scores as the engine does, with the weights of `old` (`engines.engine_policy`).
        new: The policy with newer weights; None leaves staleness out.
        temperature: That of the sampling.
        positions: In one forward pass, padding included.

    Raises:
        UserError: no engine sampled the batch, or it recorded no routes.
    """
    _check(batch, old)
    policies = {MU: engine, OLD: old} | ({} if new is None else {NEW: new})
    rows = torch.arange(len(batch)).split(max(1, positions // batch.tokens.shape[1]))
    parts = [_rescored(batch.rows(index), policies, temperature) for index in rows]
    return Rescored(
        rollout_logprobs=torch.cat([part.rollout_logprobs for part in parts]),
        logprobs={p: torch.cat([part.logprobs[p] for part in parts]) for p in parts[0].logprobs},
        flips={s: torch.cat([part.flips[s] for part in parts]) for s in parts[0].flips},
        margins=torch.cat([part.margins for part in parts]),
    )


def _check(batch: TokenBatch, old: Policy) -> None:
    if batch.rollout_logprobs is None:
        raise UserError(
            "The sources of the mismatch are counted from what the rollout engine recorded, but "
            "the batch has no rollout_logprobs. Give a batch that an engine sampled."
        )
    if old.hook is not None and batch.rollout_routing is None:
        raise UserError(
            "Routes are a source of the mismatch, but the batch has no rollout_routing. Sample it "
            "with an engine that records routing."
        )


def _rescored(batch: TokenBatch, policies: Mapping[str, Policy], temperature: float) -> Rescored:
    """All passes over a batch that is small enough for one."""
    hook = policies[OLD].hook
    own: dict[str, TokenScores] = {}
    with watch_margins([] if hook is None else hook.routers) as margins:
        own[OLD] = _score(policies[OLD], batch, temperature, None)
    if NEW in policies:
        own[NEW] = _score(policies[NEW], batch, temperature, None)
    routes = {MU: batch.rollout_routing} | {name: own[name].routing for name in own}
    scores = {Pass(name, name): own[name] for name in own}
    for step in _passes(routed=hook is not None, stale=NEW in own):
        if step not in scores:
            policy = policies[step.policy]
            scores[step] = _score(policy, batch, temperature, routes[step.routes])
    mask = batch.loss_mask
    feeding = torch.nn.functional.pad(mask[:, 1:], (0, 1))
    stacked = torch.stack(margins, dim=1) if margins else torch.empty(batch.tokens.numel(), 0)
    assert batch.rollout_logprobs is not None
    return Rescored(
        rollout_logprobs=batch.rollout_logprobs[mask].double(),
        logprobs={step: scores[step].logprobs.cpu()[mask].double() for step in scores},
        flips=_flips(routes, feeding) if hook is not None else {},
        margins=stacked.unflatten(0, batch.tokens.shape).cpu()[feeding],
    )


def _flips(
    routes: Mapping[str, Routing | None], feeding: Bool[Tensor, "B T"]
) -> dict[Source, Bool[Tensor, "N L"]]:
    """Positions at which routes of the engine, and of the newer weights, differ from pi_old's."""
    experts = {
        name: routing.at(feeding.to(routing.known.device)).cpu()
        for name, routing in routes.items()
        if routing is not None
    }
    others = {Source.ROUTING: MU, Source.STALE_ROUTING: NEW}
    return {
        source: sets_differ(experts[OLD], experts[other])
        for source, other in others.items()
        if other in experts
    }


def _score(
    policy: Policy, batch: TokenBatch, temperature: float, replay: Routing | None
) -> TokenScores:
    """Scores under `replay`, or under routes of the policy's own, which are then recorded."""
    device, support = policy.device, batch.token_support
    return policy.score(
        batch.tokens.to(device),
        batch.attention_mask.to(device),
        batch.loss_mask.to(device),
        temperature=temperature,
        support=None if support is None else support.to(device),
        replay=None if replay is None else replay.to(device),
        record_routing=replay is None,
    )


def _paths(*, routed: bool, stale: bool) -> dict[Order, Path]:
    return {
        order: tuple((source, step) for source, step in path if stale or NEW not in step)
        for order, path in (PATHS if routed else UNROUTED).items()
    }


def _passes(*, routed: bool, stale: bool) -> list[Pass]:
    """Every pass on a path, and the one that R3 trains on, which with new weights is on none."""
    steps = [step for path in _paths(routed=routed, stale=stale).values() for _, step in path]
    return [*steps, Pass(NEW if stale else OLD, MU)] if routed else steps
