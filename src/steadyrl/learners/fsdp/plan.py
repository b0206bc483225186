"""The plan of an update or a scoring: which rank computes which rows in which pass.

    round 0   rank 0: rows 4, 5     rank 1: rows 0, 1     of similar cost: ranks wait for each other
    round 1   rank 0: rows 2, 3     rank 1: filler        weighs nothing and is not reported

Ranks that hold shards of one model compute each layer together. So the plan is made in one place,
before the first pass, and gives every rank the same number of passes.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from steadyrl.learners.loss_term import LossTerm
from steadyrl.learners.micro_batches import MicroBatch, plan_micro_batches
from steadyrl.learners.settings import LearnerSettings
from steadyrl.objectives import Objective
from steadyrl.records.candidates import with_old_logprobs
from steadyrl.records.routing import Routing, join_routing
from steadyrl.records.token_batch import TokenBatch

_ROOM = (1.0, 1.1, 1.25, 1.5, 2.0)
"""Sizes of micro-batches to try, as multiples of an equal share of the positions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankPass:
    """Rows that a rank computes at once, while each other rank computes rows of its own."""

    batch: TokenBatch

    micro: MicroBatch
    """All rows of `batch`, and how they share prefixes."""

    rows: Int[Tensor, " b"]
    """Their indices in the batch that was planned."""

    weights: Float[Tensor, "b T"]
    """Weights of their tokens in the loss."""

    is_filler: bool = False
    """Whether another rank, or another pass, reports these rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankTerm:
    """What a rank computes of a loss term."""

    objective: Objective
    learned: tuple[RankPass, ...]

    measured: tuple[RankPass, ...]
    """Passes without gradient."""

    is_measured: bool
    """Whether metrics include the tokens."""


class Planner:
    """Plans the passes of `ranks` ranks.

    Args:
        least_saving: As in `plan_micro_batches`.
    """

    def __init__(self, settings: LearnerSettings, ranks: int, least_saving: float) -> None:
        self._settings = settings
        self._ranks = ranks
        self._least_saving = least_saving

    def terms(self, terms: Sequence[LossTerm]) -> list[list[RankTerm]]:
        """For each rank, its part of each of `terms`."""
        parts = [self._term(term) for term in terms]
        return [[part[rank] for part in parts] for rank in range(self._ranks)]

    def scoring(self, batch: TokenBatch) -> list[list[RankPass]]:
        """For each rank, its passes over the rows of `batch`."""
        everything = torch.ones(len(batch), dtype=torch.bool)
        return self._passes(batch, everything, torch.zeros(batch.tokens.shape))

    def _term(self, term: LossTerm) -> list[RankTerm]:
        batch, whole = term.batch, term.objective.reads_responses
        learned = term.learned_rows(skip_no_signal=self._settings.skip_no_signal)
        measures = self._settings.measure_skipped and batch.is_measured
        skipped = ~learned if measures else torch.zeros_like(learned)
        weights = term.weights
        rows = self._passes(batch, learned, weights, whole_responses=whole)
        others = self._passes(batch, skipped, weights, whole_responses=whole)
        return [
            RankTerm(
                objective=term.objective,
                learned=tuple(rows[rank]),
                measured=tuple(others[rank]),
                is_measured=batch.is_measured,
            )
            for rank in range(self._ranks)
        ]

    def _passes(
        self,
        batch: TokenBatch,
        chosen: Bool[Tensor, " B"],
        weights: Float[Tensor, "B T"],
        *,
        whole_responses: bool = False,
    ) -> list[list[RankPass]]:
        rows = chosen.nonzero().flatten()
        if not len(rows):
            return [[] for _ in range(self._ranks)]
        rounds = self._rounds(batch, rows, whole_responses=whole_responses)
        shortest = rows[batch.lengths[rows].argmin()][None]
        filler = _rank_pass(batch, MicroBatch(rows=shortest), torch.zeros_like(weights), True)
        ranks: list[list[RankPass]] = [[] for _ in range(self._ranks)]
        for micros in rounds:
            passes = [_rank_pass(batch, micro, weights, False) for micro in micros]
            for rank, own in enumerate(ranks):
                own.append(passes[rank] if rank < len(passes) else filler)
        return ranks

    def _rounds(
        self, batch: TokenBatch, rows: Int[Tensor, " n"], *, whole_responses: bool
    ) -> list[list[MicroBatch]]:
        """Micro-batches that the ranks compute at the same time, of the cheapest plan tried."""
        most = self._settings.micro_batch_tokens
        total = int(batch.lengths[rows].sum())
        share = total / self._ranks / math.ceil(total / self._ranks / most)
        limits = dict.fromkeys(min(most, math.ceil(room * share)) for room in _ROOM)
        plans = [
            plan_micro_batches(
                batch,
                rows,
                limit,
                pass_cost=self._settings.pass_cost,
                least_saving=self._least_saving,
                whole_responses=whole_responses,
            )
            for limit in limits
        ]
        rounds = [list(_by_cost(plan, batch, self._ranks)) for plan in plans]
        return min(rounds, key=lambda each: _duration(each, batch, self._settings.pass_cost))


def _by_cost(
    plan: Sequence[MicroBatch], batch: TokenBatch, ranks: int
) -> Iterator[list[MicroBatch]]:
    """Micro-batches of similar cost together, the most expensive first."""
    order = sorted(plan, key=lambda micro: -_positions(micro, batch))
    for first in range(0, len(order), ranks):
        yield order[first : first + ranks]


def _duration(rounds: Sequence[Sequence[MicroBatch]], batch: TokenBatch, pass_cost: int) -> int:
    """Positions that the slowest ranks compute one after another, and the overhead of passes."""
    return sum(pass_cost + _positions(micros[0], batch) for micros in rounds)


def _positions(micro: MicroBatch, batch: TokenBatch) -> int:
    return len(micro) * int(batch.lengths[micro.rows].max())


def _rank_pass(
    batch: TokenBatch, micro: MicroBatch, weights: Float[Tensor, "B T"], is_filler: bool
) -> RankPass:
    rows = batch.rows(micro.rows)
    own = MicroBatch(
        rows=torch.arange(len(micro)),
        prefix_groups=micro.prefix_groups,
        teacher_prefix_groups=micro.teacher_prefix_groups,
    )
    return RankPass(
        batch=rows,
        micro=own,
        rows=micro.rows,
        weights=weights[micro.rows, : rows.tokens.shape[1]],
        is_filler=is_filler,
    )


def join_scores(
    batch: TokenBatch,
    passes: Sequence[Sequence[RankPass]],
    scored: Sequence[Sequence[tuple[Tensor, Routing | None, Tensor | None]]],
    *,
    routed: bool,
) -> TokenBatch:
    """`batch` with the scores of its rows.

    Args:
        passes: The passes of each rank.
        scored: For each rank, log-probabilities, routing, and log-probabilities of candidates, of
            each pass that is not a filler.
        routed: Whether the routing is kept.
    """
    logprobs = torch.zeros(batch.tokens.shape)
    routings: list[tuple[Int[Tensor, " b"], Routing]] = []
    candidates: list[tuple[Int[Tensor, " b"], Tensor]] = []
    for own, scores in zip(passes, scored, strict=True):
        reported = [each for each in own if not each.is_filler]
        for each, (values, routing, likely) in zip(reported, scores, strict=True):
            logprobs[each.rows, : values.shape[1]] = values
            if routing is not None:
                routings.append((each.rows, routing))
            if likely is not None:
                candidates.append((each.rows, likely))
    old_routing = join_routing(routings, batch.tokens.shape[1]) if routed else None
    return replace(
        batch,
        old_logprobs=logprobs,
        old_routing=old_routing,
        candidates=batch.candidates and with_old_logprobs(batch.candidates, candidates),
    )
