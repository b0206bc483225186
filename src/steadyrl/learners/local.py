"""A learner that holds its policy whole, in this process."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from steadyrl.base.errors import UserError
from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.learners.adapted_model import AdaptedModel, AdapterContent, AdapterReference
from steadyrl.learners.loss_term import LossTerm
from steadyrl.learners.non_finite import non_finite, non_finite_weight
from steadyrl.learners.optimizer import MasterOptimizer, OptimizerSettings, learning_rate
from steadyrl.learners.passes import Passes
from steadyrl.learners.protocol import TRAINER_STATE, Update
from steadyrl.learners.settings import LearnerContext, LearnerSettings
from steadyrl.learners.whole_model import WholeModel
from steadyrl.objectives.measurements import TokenMeasurements
from steadyrl.policies.policy import Policy
from steadyrl.records.routing import RoutingReplay
from steadyrl.records.token_batch import TokenBatch
from steadyrl.records.weight_source import WeightSource


class LocalLearnerSettings(LearnerSettings):
    """A learner that holds the whole model in this process."""

    name: Literal["local"] = "local"

    def make(self, context: LearnerContext) -> "LocalLearner":
        """The learner."""
        return LocalLearner(
            context.policy,
            self,
            replay=context.replay,
            masters=context.masters,
            seed=context.seed,
            progress=context.progress,
            scores_routers=context.scores_routers,
        )


class LocalLearner:
    """A learner in this process. See `Learner` for what each method does.

    Args:
        policy: Its model is trained in place.
        replay: Source of the expert choices that forward passes use.
        masters: Weights in the precision that they had before the model was given its dtype.
        seed: Determines stochastic rounding, and the first weights of an adapter.
        progress: Receives the number of finished rows after every micro-batch.
        scores_routers: Whether `score` takes router scores, which an objective reads.
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
        scores_routers: bool = False,
    ) -> None:
        if scores_routers and policy.hook is None:
            raise UserError(
                "The objective reads router shifts, but the model is dense and has no routers. "
                "Choose another objective, or a Mixture-of-Experts model."
            )
        if settings.activation_checkpointing:
            policy.enable_activation_checkpointing()
        self.policy = policy
        self.policy_version = 0
        self._passes = Passes(policy, settings, replay=replay, progress=progress)
        self._passes.scores_routers = scores_routers
        self.trained: WholeModel | AdaptedModel = (
            WholeModel(policy)
            if settings.lora is None
            else AdaptedModel(policy, settings.lora, seed=seed)
        )
        self.optimizer = MasterOptimizer(
            self.trained.parameters().items(),
            masters=masters,
            rounding=settings.rounding,
            seed=seed,
        )
        self._settings = settings
        self._optimizer_settings = OptimizerSettings()

    @property
    def replay(self) -> RoutingReplay:
        """Source of the expert choices that forward passes use."""
        return self._passes.replay

    @replay.setter
    def replay(self, replay: RoutingReplay) -> None:
        self._passes.replay = replay

    @property
    def reference(self) -> Policy | AdapterReference | None:
        """The reference policy, which computes `ref_logprobs`; None if no loss term reads them."""
        return self._passes.reference

    @property
    def max_positions(self) -> int | None:
        """Maximum number of tokens in a row; None: no limit."""
        return self._passes.max_positions

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens that the policy knows."""
        return self.policy.vocabulary_size

    def adapter_sizes(self) -> tuple[int, int]:
        """Number of the adapter's weights, and of those of its base."""
        trained = sum(weight.numel() for weight in self.trained.parameters().values())
        whole = sum(weight.numel() for weight in self.policy.model.parameters())
        return trained, whole - trained

    def fill_adapter(self, content: AdapterContent) -> None:
        """Fills the adapter for a check."""
        assert isinstance(self.trained, AdaptedModel), "an adapter is trained"
        self.trained.fill(content)

    def begin_stage(self, optimizer: OptimizerSettings, temperature: float, *, fresh: bool) -> None:
        """Sets the optimizer and the temperature of a stage."""
        if fresh:
            self.optimizer.reset()
        self._optimizer_settings = optimizer
        self._passes.temperature = temperature

    def publish(self) -> WeightSource:
        """The current weights, not copied: read them before the next update."""
        return self.trained.publish(self.policy_version)

    def save(self, folder: Path) -> None:
        """Writes the trained weights and `trainer_state.safetensors` to `folder`."""
        for name, weight in self.trained.parameters().items():
            if not bool(weight.isfinite().all()):
                raise non_finite_weight(name, self.policy_version)
        self.trained.save(folder)
        state = {name: value.contiguous() for name, value in self.optimizer.state().items()}
        save_file(state, folder / TRAINER_STATE)

    def load(self, folder: Path, *, policy_version: int) -> None:
        """Restores what `save` wrote, to the same bits."""
        try:
            saved = self.trained.load(folder)
        except ValueError as error:
            raise UserError(
                f"The checkpoint {folder} holds another model than the run's configuration "
                f"describes. {error} Resume a run with the configuration it began with."
            ) from error
        self.optimizer.load_state(load_file(folder / TRAINER_STATE), saved)
        self.policy_version = policy_version

    def save_reference(self, folder: Path) -> None:
        """Writes the current weights to `folder` as a reference policy."""
        self.trained.save_reference(folder)

    def load_reference(self, folder: Path | None) -> None:
        """Makes the weights in `folder` the reference policy; None drops it."""
        self._passes.reference = None  # before there are two
        if folder is not None:
            self._passes.reference = self.trained.load_reference(folder)

    def publish_reference(self) -> WeightSource:
        """The weights of the reference policy."""
        assert self.reference is not None, "no reference policy was loaded"
        return self.trained.publish_reference()

    def score(self, batch: TokenBatch) -> TokenBatch:
        """`batch` with `old_logprobs`, and with `old_routing` if updates on it will replay it."""
        return self._passes.score(batch)

    @torch.enable_grad()  # code of a reward may have turned gradients off
    def update(self, terms: Sequence[LossTerm], *, step: int, steps: int) -> Update:
        """Takes one optimizer step on the sum of `terms`."""
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
        """Accumulates the gradient of one term over micro-batches; yields losses and tokens."""
        batch, objective, passes = term.batch, term.objective, self._passes
        whole_responses = objective.reads_responses
        weights = term.weights
        learned = term.learned_rows(skip_no_signal=self._settings.skip_no_signal)
        plan = passes.plan(batch, learned, whole_responses=whole_responses)
        for micro in passes.report(plan, 0, len(batch)):
            loss, tokens = passes.loss(batch, micro, objective, weights, step)
            loss.backward()
            self.optimizer.gather_gradients()
            yield loss.item(), tokens
        if self._settings.measure_skipped and batch.is_measured:
            plan = passes.plan(batch, ~learned, whole_responses=whole_responses)
            for micro in passes.report(plan, int(learned.sum()), len(batch)):
                yield 0.0, passes.measure(batch, micro, objective, step)

    def _clip_gradients(self, step: int) -> float:
        gradients = self.optimizer.gradients()
        if not gradients:  # no row had signal: a gradient of zero, on which momentum still acts
            self.optimizer.set_zero_gradients()
            return 0.0
        norm = torch.nn.utils.get_total_norm(gradients.values())
        if not bool(torch.isfinite(norm)):
            names = [n for n, g in gradients.items() if not bool(torch.isfinite(g).all())]
            raise non_finite(f"the gradient of {names[0] if names else 'all weights'}", step)
        masters = [self.optimizer.masters[name] for name in gradients]
        limit = self._optimizer_settings.gradient_clip
        torch.nn.utils.clip_grads_with_norm_(masters, limit, norm)
        return norm.item()
