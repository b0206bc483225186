"""The trainer's side of the policy: scoring of token batches, optimiser steps on loss terms."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from steadyrl.base.errors import NonFiniteError
from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.learners.loss_term import LossTerm
from steadyrl.learners.measurements import TokenMeasurements, measured_tokens
from steadyrl.learners.micro_batches import least_saving, plan_micro_batches, saves_enough
from steadyrl.learners.optimizer import MasterOptimizer, OptimizerSettings, learning_rate
from steadyrl.learners.replay import records_routing, routing_to_replay
from steadyrl.learners.settings import LearnerSettings
from steadyrl.objectives import TokenTerms, aggregate, token_weights
from steadyrl.policies.policy import Policy, TokenScores
from steadyrl.policies.reach import Reach
from steadyrl.records.routing import Routing, RoutingReplay, joined
from steadyrl.records.token_batch import TokenBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What one optimiser step did."""

    loss: float
    gradient_norm: float
    """Before clipping."""

    learning_rate: float
    reach: Reach
    measurements: TokenMeasurements


class LocalLearner:
    """The trainer, in this process.

    Args:
        policy: Its model is trained in place.
        replay: Whose routing the forward passes use. It may be changed between steps.
        masters: Weights in the precision that they had before the model was given its type.
        seed: Determines stochastic rounding.
        progress: Hears after every micro-batch how many rows are done.

    `policy_version` counts optimiser steps since the weights were made. `reference` is the policy
    whose `ref_logprobs` loss terms may read; None where none does.
    """

    def __init__(
        self,
        policy: Policy,
        settings: LearnerSettings,
        *,
        replay: RoutingReplay,
        masters: Mapping[str, Tensor] | None = None,
        seed: int = 0,
        progress: Progress = NO_PROGRESS,
    ) -> None:
        if settings.activation_checkpointing:
            policy.enable_activation_checkpointing()
        self.policy = policy
        self.policy_version = 0
        self.reference: Policy | None = None
        self._settings = settings
        self._least_saving = least_saving(settings.share_prefixes, policy)
        self.optimizer = MasterOptimizer(
            policy.model.named_parameters(),
            masters=masters,
            rounding=settings.rounding,
            seed=seed,
        )
        self._optimizer_settings = OptimizerSettings()
        self._temperature = 1.0
        self.replay = replay
        self._progress = progress

    def begin_stage(self, optimizer: OptimizerSettings, temperature: float, *, fresh: bool) -> None:
        """Takes over a stage's settings. `fresh` forgets the optimiser's moments; weights stay."""
        if fresh:
            self.optimizer.reset()
        self._optimizer_settings = optimizer
        self._temperature = temperature

    def weights(self) -> Mapping[str, Tensor]:
        """The weights, for an engine to load."""
        return self.policy.model.state_dict()

    @torch.no_grad()
    def score(self, batch: TokenBatch) -> TokenBatch:
        """`batch` with `old_logprobs`, and with `old_routing` if replay will want it."""
        record = records_routing(self.replay, batch)
        logprobs = torch.zeros(batch.tokens.shape)
        routings: list[tuple[Int[Tensor, " b"], Routing]] = []
        done = 0
        for index in self._plan(batch, torch.ones(len(batch), dtype=torch.bool)):
            micro = batch.rows(index)
            replay = routing_to_replay(self.replay, micro)
            scores = self._score(micro, replay=replay, record_routing=record)
            logprobs[index, : micro.tokens.shape[1]] = scores.logprobs.cpu()
            if scores.routing is not None:
                routings.append((index, scores.routing.to(torch.device("cpu"))))
            done += len(index)
            self._progress.advance("rows", done, len(batch))
        old_routing = joined(routings, batch.tokens.shape[1]) if record else None
        return replace(batch, old_logprobs=logprobs, old_routing=old_routing)

    def update(self, terms: Sequence[LossTerm], *, step: int, steps: int) -> Update:
        """One optimiser step on the sum of `terms`; `step` of `steps` sets the learning rate.

        Raises:
            NonFiniteError: before the weights change.
        """
        self.optimizer.zero_gradients()
        losses: list[float] = []
        measured: list[TokenMeasurements] = []
        for term in terms:
            for loss, tokens in self._accumulate(term, step):
                losses.append(loss)
                if term.batch.is_measured:
                    measured.append(tokens)
        norm = self._clip_gradients(step)
        rate = learning_rate(self._optimizer_settings, step, steps)
        reach = self.optimizer.step(self._optimizer_settings, rate)
        self.policy_version += 1
        return Update(
            loss=sum(losses, 0.0),
            gradient_norm=norm,
            learning_rate=rate,
            reach=reach,
            measurements=TokenMeasurements.join(measured),
        )

    def _accumulate(self, term: LossTerm, step: int) -> Iterator[tuple[float, TokenMeasurements]]:
        """Adds the gradient of one term, micro-batch by micro-batch."""
        batch, settings = term.batch, self._settings
        weights = term.scale * token_weights(
            batch.loss_mask,
            batch.group_ids,
            term.aggregation,
            response_ids=batch.response_ids,
            constant_length=term.constant_length,
        )
        learned = torch.ones(len(batch), dtype=torch.bool)
        if term.proportional_to_advantage and settings.skip_no_signal:
            learned = batch.has_signal
        done = 0
        for rows in self._plan(batch, learned, whole_responses=term.reads_responses):
            micro = batch.rows(rows)
            token_terms, tokens = self._token_terms(micro, term)
            objective = term.objective(token_terms)
            micro_weights = weights[rows, : micro.tokens.shape[1]].to(objective.device)
            loss = aggregate(objective, micro_weights)
            if not bool(torch.isfinite(loss)):
                raise _non_finite("the loss", step, _not_finite_count(token_terms))
            loss.backward()
            self.optimizer.gather_gradients()
            done += len(rows)
            self._progress.advance("rows", done, len(batch))
            yield loss.item(), tokens
        if settings.measure_skipped and batch.is_measured:
            with torch.no_grad():
                for rows in self._plan(batch, ~learned, whole_responses=term.reads_responses):
                    token_terms, tokens = self._token_terms(batch.rows(rows), term)
                    if bool(tokens.logprobs.isnan().any()):
                        raise _non_finite("a log-probability", step, _not_finite_count(token_terms))
                    done += len(rows)
                    self._progress.advance("rows", done, len(batch))
                    yield 0.0, tokens

    def _token_terms(
        self, micro: TokenBatch, term: LossTerm
    ) -> tuple[TokenTerms, TokenMeasurements]:
        """The objective's input for a micro-batch, and what was measured on the way."""
        replay = routing_to_replay(self.replay, micro)
        # What is replayed needs no record: the watch proves that the pass used it.
        record = replay is None and micro.rollout_routing is not None
        record |= term.reads_reference
        scores = self._score(micro, replay=replay, record_routing=record)
        device = scores.logprobs.device
        now = scores.logprobs.detach()
        old = now if micro.old_logprobs is None else micro.old_logprobs.to(device)
        rollout = now if micro.rollout_logprobs is None else micro.rollout_logprobs.to(device)
        terms = TokenTerms(
            logprobs=scores.logprobs,
            old_logprobs=old,
            rollout_logprobs=rollout,
            advantages=micro.advantages.to(device),
            loss_mask=micro.loss_mask.to(device),
            response_ids=micro.response_ids.to(device),
            teacher_logprobs=self._teacher_logprobs(micro),
            ref_logprobs=self._ref_logprobs(micro, scores) if term.reads_reference else None,
        )
        with torch.no_grad():
            limited = term.limits(terms)
        routing = scores.routing if replay is None else replay
        return terms, measured_tokens(micro, terms, scores, limited, routing)

    @torch.no_grad()
    def _teacher_logprobs(self, micro: TokenBatch) -> Float[Tensor, "B T"] | None:
        """What the present weights say of the tokens under the teacher's prompt."""
        if micro.teacher is None:
            return None
        replay = routing_to_replay(self.replay, micro.teacher)
        said = self._score(micro.teacher, replay=replay).logprobs
        mask = micro.loss_mask.to(said.device)
        tokens = said[micro.teacher.loss_mask.to(said.device)]
        return said.new_zeros(mask.shape).masked_scatter(mask, tokens)

    @torch.no_grad()
    def _ref_logprobs(self, micro: TokenBatch, scores: TokenScores) -> Float[Tensor, "B T"]:
        """What the reference says of the tokens; where routing is replayed, by the row's routes."""
        assert self.reference is not None
        routes = None if self.replay is RoutingReplay.NONE else scores.routing
        return self._score(micro, replay=routes, by=self.reference).logprobs

    def _score(
        self,
        micro: TokenBatch,
        *,
        replay: Routing | None,
        record_routing: bool = False,
        by: Policy | None = None,
    ) -> TokenScores:
        device = self.policy.device
        temperature = self._temperature if micro.temperature is None else micro.temperature
        shares = saves_enough(micro, self._least_saving)
        return (by or self.policy).score(
            micro.tokens.to(device),
            micro.attention_mask.to(device),
            micro.loss_mask.to(device),
            temperature=temperature,
            replay=None if replay is None else replay.to(device),
            record_routing=record_routing,
            prefix_groups=micro.group_ids.to(device) if shares else None,
            pass_cost=self._settings.pass_cost,
        )

    def _plan(
        self, batch: TokenBatch, chosen: Bool[Tensor, " B"], *, whole_responses: bool = False
    ) -> list[Int[Tensor, " b"]]:
        """The rows of each micro-batch of the rows that are `chosen`."""
        return plan_micro_batches(
            batch,
            chosen.nonzero().flatten(),
            self._settings.micro_batch_tokens,
            pass_cost=self._settings.pass_cost,
            least_saving=self._least_saving,
            whole_responses=whole_responses,
        )

    def _clip_gradients(self, step: int) -> float:
        gradients = self.optimizer.gradients()
        if not gradients:  # no row had signal: a gradient of zero, on which momentum still acts
            self.optimizer.set_zero_gradients()
            return 0.0
        norm = torch.nn.utils.get_total_norm(gradients.values())
        if not bool(torch.isfinite(norm)):
            names = [n for n, g in gradients.items() if not bool(torch.isfinite(g).all())]
            raise _non_finite(f"the gradient of {names[0] if names else 'all weights'}", step, "")
        masters = [self.optimizer.masters[name] for name in gradients]
        limit = self._optimizer_settings.gradient_clip
        torch.nn.utils.clip_grads_with_norm_(masters, limit, norm)
        return norm.item()


def _not_finite_count(terms: TokenTerms) -> str:
    bad = terms.loss_mask & ~torch.isfinite(terms.logprobs)
    return f" {int(bad.sum())} of {int(terms.loss_mask.sum())} log-probabilities are not finite."


def _non_finite(what: str, step: int, detail: str) -> NonFiniteError:
    return NonFiniteError(
        f"At step {step}, {what} is not finite.{detail} The optimiser step was not taken. Set a "
        "lower learning_rate or gradient_clip, or dtype float32, in the run's config.yaml and "
        "resume it."
    )
