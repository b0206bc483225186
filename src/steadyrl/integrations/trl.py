"""MiniRL with routing replay as a trainer of TRL.

    trainer = MiniRLTrainer(model, reward_funcs=reward, train_dataset=dataset,
                            args=MiniRLConfig("out", routing_replay="r3"))
    trainer.train()

    generate -> log mu and routes -> TRL's rewards, shuffles and splits -> forward pass with the
    routes replayed -> MiniRL -> TRL's optimizer step and logs

TRL keeps everything but the loss. Its `generate` reports neither the log-probabilities nor the
routing of what it samples, so both are recorded here. With vLLM, TRL reports log-probabilities
only; a `rollout_func` may return the routing as `routed_experts`.
"""

from contextlib import ExitStack, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin

from steadyrl.base.errors import UserError
from steadyrl.integrations.sampled_logprobs import SampledLogprobs
from steadyrl.integrations.steady_callback import SteadyCallback
from steadyrl.integrations.trl_config import MiniRLConfig, check_checkpoint
from steadyrl.integrations.trl_names import GRPOConfig, GRPOTrainer, gather_object
from steadyrl.integrations.trl_rollout import from_rows, padded_rows, reported_routing, to_rows
from steadyrl.objectives import (
    Aggregation,
    MiniRL,
    RoutingDisagreement,
    TokenTerms,
    aggregate,
    routing_disagreement,
    token_weights,
)
from steadyrl.objectives.measurements import TokenMeasurements, policy_metrics
from steadyrl.policies.routed_passes import RoutingRecord
from steadyrl.policies.routers import is_moe
from steadyrl.policies.routing import RoutingHook
from steadyrl.policies.row_checks import check_replay
from steadyrl.records.routing import Routing, RoutingReplay

__all__ = ["MiniRLConfig", "MiniRLTrainer", "SteadyCallback"]


class MiniRLTrainer(GRPOTrainer):
    """TRL's `GRPOTrainer` with MiniRL's loss, routing replay, and metrics of the mismatch.

    Takes the arguments of `GRPOTrainer`, with a `MiniRLConfig` as `args`. The loss is

        loss = -(1 / Y) sum_{i,t} J_it

    where J is the objective of `steadyrl.objectives.MiniRL` and Y the responses of an optimizer
    step. A routing that belongs to other tokens than it is replayed on stops the training.

    Raises:
        UserError: a setting or a model that the trainer does not support.
    """

    def __init__(self, model: Any, *arguments: Any, args: GRPOConfig, **keywords: Any) -> None:
        _check_arguments(args, keywords)
        super().__init__(model, *arguments, args=args, **keywords)
        if keywords.get("rollout_func") is None and not args.use_vllm:
            check_checkpoint(self._causal_model.generation_config)
        self.objective = MiniRL(
            clip_low=args.epsilon, clip_high=args.epsilon_high, weight_cap=args.weight_cap
        )
        self.hook = _hook_for(self._causal_model, args)
        # Where TRL adds tokens or padding of its own, routes are not laid out over its rows.
        self._follows_routes = not self.tools and args.pad_to_multiple_of is None
        self._record: RoutingRecord | None = None
        self._rollout_routing: Routing | None = None
        self._old_routing: Routing | None = None
        self._measured: dict[str, list[TokenMeasurements]] = {"train": [], "eval": []}

    @property
    def _causal_model(self) -> PreTrainedModel:
        model = self.accelerator.unwrap_model(self.model)
        return model.get_base_model() if hasattr(model, "get_base_model") else model

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Samples completions, and records log mu and routing where TRL records neither."""
        if self.use_vllm:
            return super()._generate_single_turn(*args, **kwargs)
        with ExitStack() as stack:
            if self.hook is not None and self._follows_routes:
                self._record = stack.enter_context(self.hook.record())
            sampled = stack.enter_context(
                SampledLogprobs(self._causal_model, temperature=self.temperature)
            )
            completion_ids, _ = super()._generate_single_turn(*args, **kwargs)
        return completion_ids, sampled.of(completion_ids)

    def _generate(self, prompts: list[Any]) -> Any:
        """Samples the completions of a rollout, and lays out their routing over its rows."""
        self._record = self._rollout_routing = self._old_routing = None
        generated = super()._generate(prompts)
        prompt_ids, completion_ids, extra_fields = generated[0], generated[1], generated[5]
        experts = extra_fields.pop("routed_experts", None)
        if self.hook is not None and self._follows_routes and experts is not None:
            self._rollout_routing = reported_routing(experts, prompt_ids, completion_ids, self.hook)
        elif self._record is not None:
            tokens, mask = padded_rows(prompt_ids, completion_ids)
            device = self.accelerator.device
            self._rollout_routing = self._record.routing(tokens.to(device), mask.to(device))
        if self._rollout_routing is None and self.args.replay is RoutingReplay.R3:
            raise UserError(
                "routing_replay is 'r3', but the rollout_func returned no routed_experts. Return "
                "them, or set routing_replay to 'none' or 'r2'."
            )
        return generated

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, *args: Any, **kwargs: Any
    ) -> Any:
        """Scores a rollout under the old weights, as TRL does where pi_old is not pi_theta."""
        replay = self.args.replay
        record: Any = nullcontext()
        if self.hook is not None and replay is RoutingReplay.R3:
            assert self._rollout_routing is not None
            record = self.hook.replay(self._rollout_routing, attention_mask)
        elif self.hook is not None and replay is RoutingReplay.R2:
            record = self.hook.record()
        with record as used:
            scores = super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, *args, **kwargs
            )
        if replay is RoutingReplay.R2:
            self._old_routing = used.routing(input_ids, attention_mask)
        return scores

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """A rollout as TRL returns it, with the routing of each row."""
        rollout = super()._generate_and_score_completions(inputs)
        for name in ("rollout_routing", "old_routing"):
            routing = getattr(self, f"_{name}")
            if routing is not None:
                rollout[name] = to_rows(routing)
        return rollout

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        """MiniRL's loss of a micro-batch, as its share of the optimizer step's."""
        terms, entropy, disagreement = self._terms(model, inputs)
        objective, masks = self.objective(terms), self.objective.masks(terms)
        rows = torch.arange(len(terms.logprobs), device=terms.logprobs.device)
        weights = token_weights(terms.loss_mask, rows, Aggregation.TOKEN_SUM)
        self._measured[self._mode].append(TokenMeasurements.of(terms, entropy, masks, disagreement))
        micro_batches = self.current_gradient_accumulation_steps if self.model.training else 1
        return aggregate(objective, weights) / micro_batches

    def _terms(
        self, model: Any, inputs: dict[str, Any]
    ) -> tuple[TokenTerms, Float[Tensor, "B T"], RoutingDisagreement | None]:
        """The objective's input over the completions, their entropy, and the routing compared."""
        tokens = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
        attention_mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
        loss_mask = (inputs["completion_mask"] * inputs.get("tool_mask", 1)).bool()
        with self._routed(inputs, attention_mask) as used:
            logprobs, entropy, _ = super()._get_per_token_logps_and_entropies(
                model, tokens, attention_mask, loss_mask.shape[1], compute_entropy=True
            )
        now = logprobs.detach()
        old = inputs.get("old_per_token_logps", now)
        rollout = inputs["sampling_per_token_logps"]
        terms = TokenTerms(
            logprobs=logprobs,
            old_logprobs=old,
            rollout_logprobs=torch.where(rollout.isnan(), old, rollout),
            advantages=inputs["advantages"][:, None] * loss_mask,
            loss_mask=loss_mask,
        )
        disagreement = None
        if used is not None and "rollout_routing" in inputs and bool(loss_mask.any()):
            feeding = torch.zeros_like(attention_mask, dtype=torch.bool)
            feeding[:, -loss_mask.shape[1] - 1 : -1] = loss_mask
            engine = from_rows(inputs["rollout_routing"])
            check_replay(engine, tokens, attention_mask.bool())
            trainer = used.routing(tokens, attention_mask)
            disagreement = routing_disagreement(
                engine.to(feeding.device).at(feeding), trainer.at(feeding)
            )
        return terms, entropy, disagreement

    def _routed(self, inputs: dict[str, Any], attention_mask: Tensor) -> Any:
        """Context of a training pass: its routing is replayed, or recorded for the metrics."""
        names = {RoutingReplay.R2: "old_routing", RoutingReplay.R3: "rollout_routing"}
        name = names.get(self.args.replay)
        if self.hook is None:
            return nullcontext()
        if name is None:
            return self.hook.record()
        return self.hook.replay(from_rows(inputs[name]), attention_mask)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Logs TRL's metrics, and ours over all tokens since the last log, on every process."""
        parts = gather_object(self._measured[self._mode])
        self._measured[self._mode] = []
        prefix = "" if self.model.training else "eval_"
        metrics = policy_metrics(TokenMeasurements.join(parts))
        metrics.pop("routing_disagreement_per_layer", None)  # TRL logs numbers only
        ours = {f"{prefix}{name}": value for name, value in metrics.items()}
        super().log(logs | ours, start_time)

    @property
    def _mode(self) -> str:
        return "train" if self.model.training else "eval"


def _hook_for(model: PreTrainedModel, args: MiniRLConfig) -> RoutingHook | None:
    if not is_moe(model):
        if args.replay is not RoutingReplay.NONE:
            raise UserError(
                f"routing_replay is {args.routing_replay!r}, but {type(model).__name__} has no "
                "experts. Set it to 'none'."
            )
        return None
    return RoutingHook(model) if args.hook_routing else None


def _check_arguments(args: Any, keywords: dict[str, Any]) -> None:
    """Refuses what the trainer does not support, before TRL loads anything."""
    if not isinstance(args, MiniRLConfig):
        raise UserError(
            f"MiniRLTrainer takes a MiniRLConfig, got {type(args).__name__}. Replace GRPOConfig by "
            "steadyrl.integrations.trl.MiniRLConfig."
        )
    if isinstance(keywords.get("processing_class"), ProcessorMixin):
        raise UserError("MiniRLTrainer trains on text. Pass a tokenizer as processing_class.")
    own_rollout = keywords.get("rollout_func") is not None
    if not own_rollout:
        args.check_filters()
    if args.replay is not RoutingReplay.R3:
        return
    if args.use_vllm and not own_rollout:
        raise UserError(
            "routing_replay is 'r3', but TRL's vLLM client drops the routed experts. Pass a "
            "rollout_func that returns them as routed_experts, or set use_vllm to False."
        )
    if keywords.get("tools") or keywords.get("environment_factory") is not None:
        raise UserError(
            "routing_replay 'r3' needs completions of one turn. Leave tools and "
            "environment_factory out, or set routing_replay to 'none' or 'r2'."
        )
