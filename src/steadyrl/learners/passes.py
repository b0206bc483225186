"""Forward passes of a learner over micro-batches: policy, teacher and reference policy."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.learners.adapted_model import AdapterReference
from steadyrl.learners.measurements import measured_tokens
from steadyrl.learners.micro_batches import MicroBatch, least_saving, plan_micro_batches
from steadyrl.learners.non_finite import non_finite, non_finite_count
from steadyrl.learners.replay import records_routing, routing_to_replay
from steadyrl.learners.settings import LearnerSettings
from steadyrl.objectives import CandidateTerms, Objective, TokenTerms, aggregate
from steadyrl.objectives.measurements import TokenMeasurements
from steadyrl.objectives.objective_calls import token_masks, token_values
from steadyrl.policies.policy import Policy
from steadyrl.policies.positions import max_positions
from steadyrl.policies.router_scores import router_scores
from steadyrl.policies.token_scores import TokenScores
from steadyrl.records.candidates import with_old_logprobs
from steadyrl.records.router_scores import RouterScores
from steadyrl.records.routing import Routing, RoutingReplay, join_routing
from steadyrl.records.token_batch import TokenBatch


class Passes:
    """Scores micro-batches according to the learner's settings.

    `reference` is the policy that computes `ref_logprobs`; None if no loss term reads them.
    """

    def __init__(
        self,
        policy: Policy,
        settings: LearnerSettings,
        *,
        replay: RoutingReplay = RoutingReplay.NONE,
        progress: Progress = NO_PROGRESS,
    ) -> None:
        self.policy = policy
        self.reference: Policy | AdapterReference | None = None
        self.replay = replay
        self.temperature = 1.0
        self.scores_routers = False
        """Whether an objective reads router shifts, so that `score` takes router scores."""
        self._settings = settings
        self._least_saving = least_saving(settings.share_prefixes, policy)
        self._progress = progress

    @property
    def max_positions(self) -> int | None:
        """Maximum number of tokens in a row; None: no limit."""
        return max_positions(self.policy.model)

    @torch.no_grad()
    def score(self, batch: TokenBatch) -> TokenBatch:
        """`batch` with `old_logprobs`, and with `old_routing` if updates on it will replay it."""
        record = records_routing(self.replay, batch)
        logprobs = torch.zeros(batch.tokens.shape)
        routings: list[tuple[Int[Tensor, " b"], Routing]] = []
        routers: list[tuple[Int[Tensor, " b"], RouterScores]] = []
        candidates: list[tuple[Int[Tensor, " b"], Float[Tensor, "n K"]]] = []
        plan = self.plan(batch, torch.ones(len(batch), dtype=torch.bool))
        for micro in self.report(plan, 0, len(batch)):
            rows = batch.rows(micro.rows)
            replay = routing_to_replay(self.replay, rows)
            scores = self.scores(
                rows,
                micro.prefix_groups,
                replay=replay,
                record_routing=record,
                candidates=True,
            )
            logprobs[micro.rows, : rows.tokens.shape[1]] = scores.logprobs.cpu()
            if self.scores_routers:
                routers.append((micro.rows, self._router_scores(rows).to(logprobs.device)))
            if scores.candidates is not None:
                candidates.append((micro.rows, scores.candidates.cpu()))
            if scores.routing is not None:
                routings.append((micro.rows, scores.routing.to(torch.device("cpu"))))
        old_routing = join_routing(routings, batch.tokens.shape[1]) if record else None
        shape = (len(batch), batch.tokens.shape[1])
        old_router = RouterScores.joined(routers, shape) if routers else None
        return replace(
            batch,
            old_logprobs=logprobs,
            old_routing=old_routing,
            old_router=old_router,
            candidates=batch.candidates and with_old_logprobs(batch.candidates, candidates),
        )

    def plan(
        self, batch: TokenBatch, chosen: Bool[Tensor, " B"], *, whole_responses: bool = False
    ) -> list[MicroBatch]:
        """Micro-batches of the `chosen` rows."""
        return plan_micro_batches(
            batch,
            chosen.nonzero().flatten(),
            self._settings.micro_batch_tokens,
            pass_cost=self._settings.pass_cost,
            least_saving=self._least_saving,
            whole_responses=whole_responses,
        )

    def report(self, plan: list[MicroBatch], done: int, total: int) -> Iterator[MicroBatch]:
        """Yields each micro-batch of `plan`, and reports progress when its rows are done.

        Args:
            done: Number of rows that were done before.
        """
        for micro in plan:
            yield micro
            done += len(micro)
            self._progress.advance("rows", done, total)

    def scores(
        self,
        rows: TokenBatch,
        prefix_groups: Int[Tensor, " b"] | None,
        *,
        replay: Routing | None,
        record_routing: bool = False,
        candidates: bool = False,
        by: Policy | AdapterReference | None = None,
    ) -> TokenScores:
        """Scores of the loss tokens of `rows`.

        Args:
            prefix_groups: Rows with equal numbers share the computation of their common prefix.
            replay: Expert choices to use instead of the model's own.
            candidates: Whether to score the candidates of the rows too, if there are any.
            by: Policy that scores; None: the trained policy.
        """
        device = self.policy.device
        temperature = self.temperature if rows.temperature is None else rows.temperature
        support = rows.token_support
        likely = rows.token_candidates if candidates else None
        return (by or self.policy).score(
            rows.tokens.to(device),
            rows.attention_mask.to(device),
            rows.loss_mask.to(device),
            temperature=temperature,
            support=None if support is None else support.to(device),
            candidates=None if likely is None else likely.ids.to(device).long(),
            replay=None if replay is None else replay.to(device),
            record_routing=record_routing,
            prefix_groups=None if prefix_groups is None else prefix_groups.to(device),
            pass_cost=self._settings.pass_cost,
        )

    def loss(
        self,
        batch: TokenBatch,
        micro: MicroBatch,
        objective: Objective,
        weights: Float[Tensor, "B T"],
        step: int,
    ) -> tuple[Float[Tensor, ""], TokenMeasurements]:
        """The loss of a micro-batch, and measurements of its tokens.

        Args:
            weights: Weights of the tokens of the batch.
            step: For messages.

        Raises:
            NonFiniteError: the loss is not finite.
        """
        terms, tokens = self.token_terms(batch, micro, objective)
        values = token_values(objective, terms)
        own = weights[micro.rows, : values.shape[1]].to(values.device)
        loss = aggregate(values, own)
        if not bool(torch.isfinite(loss)):
            raise non_finite("the loss", step, non_finite_count(terms))
        return loss, tokens

    @torch.no_grad()
    def measure(
        self, batch: TokenBatch, micro: MicroBatch, objective: Objective, step: int
    ) -> TokenMeasurements:
        """Measurements of the tokens of a micro-batch that is not learned from.

        Raises:
            NonFiniteError: a log-probability is not a number.
        """
        terms, tokens = self.token_terms(batch, micro, objective)
        if bool(tokens.logprobs.isnan().any()):
            raise non_finite("a log-probability", step, non_finite_count(terms))
        return tokens

    def token_terms(
        self, batch: TokenBatch, micro: MicroBatch, objective: Objective
    ) -> tuple[TokenTerms, TokenMeasurements]:
        """The objective's input for a micro-batch, and measurements of its tokens."""
        rows = batch.rows(micro.rows)
        replay = routing_to_replay(self.replay, rows)
        # What is replayed needs no record: the watch proves that the pass used it.
        record = replay is None and rows.rollout_routing is not None
        reads_reference = objective.reads_reference
        record |= reads_reference
        scores = self.scores(
            rows,
            micro.prefix_groups,
            replay=replay,
            record_routing=record,
            candidates=objective.reads_candidates > 0,
        )
        device = scores.logprobs.device
        now = scores.logprobs.detach()
        old = now if rows.old_logprobs is None else rows.old_logprobs.to(device)
        of_engine = rows.rollout_logprobs
        if of_engine is not None and self._settings.rollout_logprobs == "trainer":
            of_engine = old
        rollout = now if of_engine is None else of_engine.to(device)
        terms = TokenTerms(
            logprobs=scores.logprobs,
            old_logprobs=old,
            rollout_logprobs=rollout,
            advantages=rows.advantages.to(device),
            loss_mask=rows.loss_mask.to(device),
            response_ids=rows.response_ids.to(device),
            teacher_logprobs=self._teacher_logprobs(rows, micro),
            ref_logprobs=self._ref_logprobs(rows, micro, scores) if reads_reference else None,
            router_shift=self._router_shift(rows) if objective.reads_router else None,
            candidates=self._candidate_terms(rows, scores) if objective.reads_candidates else None,
        )
        with torch.no_grad():
            masks = token_masks(objective, terms)
        routing = scores.routing if replay is None else replay
        return terms, measured_tokens(rows, terms, scores, masks, routing)

    def _candidate_terms(self, rows: TokenBatch, scores: TokenScores) -> CandidateTerms:
        """The terms of the candidates of `rows`.

        Raises:
            RuntimeError: the engine recorded none.
        """
        likely = rows.token_candidates
        if likely is None or scores.candidates is None:
            raise RuntimeError(
                "The objective reads the engine's most probable tokens, but the engine recorded "
                "none for these. Let the engine record them, or choose another objective."
            )
        device, now = scores.candidates.device, scores.candidates.detach()
        old = now if likely.old_logprobs is None else likely.old_logprobs.to(device)
        exact = self._settings.rollout_logprobs == "trainer"
        return CandidateTerms(
            logprobs=scores.candidates,
            old_logprobs=old,
            rollout_logprobs=old if exact else likely.logprobs.to(device),
        )

    def _router_scores(self, rows: TokenBatch, of: RouterScores | None = None) -> RouterScores:
        """Router scores of a pass over `rows` under the current weights."""
        device = self.policy.device
        replay = routing_to_replay(self.replay, rows)
        return router_scores(
            self.policy,
            rows.tokens.to(device),
            of=None if of is None else of.to(device),
            replay=None if replay is None else replay.to(device),
        )

    def _router_shift(self, rows: TokenBatch) -> Float[Tensor, "B T"]:
        """How far the routers have moved since before the update; 0 where none was taken yet."""
        if rows.old_router is None:
            return torch.zeros(rows.tokens.shape, device=self.policy.device)
        old = rows.old_router.to(self.policy.device)
        return old.shift(self._router_scores(rows, of=old))

    @torch.no_grad()
    def _teacher_logprobs(self, rows: TokenBatch, micro: MicroBatch) -> Float[Tensor, "B T"] | None:
        """Log-probabilities of the tokens given the teacher's prompt, under the current weights."""
        if rows.teacher is None:
            return None
        replay = routing_to_replay(self.replay, rows.teacher)
        said = self.scores(rows.teacher, micro.teacher_prefix_groups, replay=replay).logprobs
        mask = rows.loss_mask.to(said.device)
        tokens = said[rows.teacher.loss_mask.to(said.device)]
        return said.new_zeros(mask.shape).masked_scatter(mask, tokens)

    @torch.no_grad()
    def _ref_logprobs(
        self, rows: TokenBatch, micro: MicroBatch, scores: TokenScores
    ) -> Float[Tensor, "B T"]:
        """The reference policy's log-probabilities, with the row's routing if one is replayed."""
        assert self.reference is not None
        routes = None if self.replay is RoutingReplay.NONE else scores.routing
        return self.scores(rows, micro.prefix_groups, replay=routes, by=self.reference).logprobs
