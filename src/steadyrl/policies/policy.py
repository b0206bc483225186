"""A causal language model as a policy: log-probabilities, entropy and routing of given tokens.

This is the only place that shifts the time axis: the model's output at `t - 1` predicts
`tokens[:, t]`, and all results are aligned with `tokens`.
"""

from functools import cached_property, partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_layers import GradientCheckpointingLayer

from steadyrl.base.errors import UserError
from steadyrl.policies.attention_masks import AttentionMasks
from steadyrl.policies.float32_head import HeadDtype
from steadyrl.policies.output_head import OutputHead
from steadyrl.policies.passes import PASS_COST
from steadyrl.policies.positions import RowLimit
from steadyrl.policies.probes import causality_unsupported_reason, unsupported_reason
from steadyrl.policies.products import speed_up
from steadyrl.policies.routers import is_moe
from steadyrl.policies.routing import RoutingHook
from steadyrl.policies.row_checks import check_padding, check_replay
from steadyrl.policies.row_tensors import at_positions, whole_rows
from steadyrl.policies.shared_prefixes import SharedPrefixes
from steadyrl.policies.sharing_probe import changed_by_sharing
from steadyrl.policies.token_scores import LOGITS_MEMORY, TokenScores
from steadyrl.policies.tokenizers import (
    configured_ends,
    end_token_ids,
    template_end,
)
from steadyrl.policies.weight_access import Results, WeightAccess, WholeWeights
from steadyrl.records.routing import PaddedRouting, Routing
from steadyrl.records.support import Support


class Policy:
    """A model with its tokenizer, and a hook on its routers if it has experts.

    Args:
        hook_routing: Whether to hook the routers of a Mixture-of-Experts model.
        logits_memory: Maximum bytes of vocabulary probabilities stored for the backward pass. If
            more are needed, they are recomputed instead.

    Raises:
        UserError: the model is not causal; its routers cannot be hooked; or its head should compute
            in float32, but the family does not support it.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        hook_routing: bool = True,
        logits_memory: int = LOGITS_MEMORY,
    ) -> None:
        speed_up(model)
        self.model = model
        self.tokenizer = tokenizer
        self.logits_memory = logits_memory
        not_causal = unsupported_reason(causality_unsupported_reason, model)
        if not_causal is not None:
            raise UserError(not_causal)
        self.hook = RoutingHook(model) if hook_routing and is_moe(model) else None
        self._head = OutputHead(model)
        self._recomputes = False
        self._row_limit = RowLimit(model)
        self.access: WeightAccess = WholeWeights()
        """How forward passes reach the weights of the model."""

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.model.device

    @property
    def vocabulary_size(self) -> int:
        """Tokens that the model has an embedding for."""
        return self.model.get_input_embeddings().weight.shape[0]

    @property
    def head_dtype(self) -> HeadDtype:
        """Dtype of the output head's matrix product."""
        return self._head.dtype

    @property
    def end_token_ids(self) -> set[int]:
        """Tokens that end a turn: the configured end tokens, and the chat template's."""
        return end_token_ids(self.tokenizer, self._configured_eos)

    @property
    def end_token_note(self) -> str | None:
        """A note if the chat template closes turns by a token that is not configured as end."""
        closing = template_end(self.tokenizer)
        configured = configured_ends(self.tokenizer, self._configured_eos)
        if closing is None or closing in configured:
            return None
        names = [repr(self.tokenizer.decode([token])) for token in (closing, *sorted(configured))]
        return (
            f"Turns also end at {names[0]}, by which the chat template closes them. The end tokens "
            f"of tokenizer and generation config are different: {', '.join(names[1:]) or 'none'}."
        )

    @property
    def _configured_eos(self) -> int | list[int] | None:
        config = self.model.generation_config
        return None if config is None else config.eos_token_id

    def enable_activation_checkpointing(self) -> None:
        """Recomputes each layer in the backward pass, with the routing of the forward pass.

        Raises:
            UserError: the family does not support recomputation, or becomes random, for example by
                dropout, so that its probabilities would differ between passes.
        """
        if not self.model.supports_gradient_checkpointing:
            raise UserError(
                f"{type(self.model).__name__} does not support activation checkpointing. Set "
                "learner.activation_checkpointing to false."
            )
        self._recomputes = True
        options: dict[str, object] = {"use_reentrant": False}
        if self.hook is not None:
            options["context_fn"] = self.hook.checkpoint_contexts
        # The second name is the one in Transformers 5.17.
        enable = getattr(self.model, "activation_checkpointing_enable", None)
        enable = enable or self.model.gradient_checkpointing_enable
        enable(options)
        for module in self.model.modules():
            if isinstance(module, GradientCheckpointingLayer):
                # Transformers only checkpoints layers in training mode. Their submodules stay in
                # evaluation mode, in which dropout and router noise are off.
                module.training = True
        if self._is_random():
            raise UserError(
                f"{type(self.model).__name__} is random under activation checkpointing, for "
                "example by dropout, so that ratios of its probabilities would be meaningless. Set "
                "its dropout to 0 in the checkpoint's config.json, or "
                "learner.activation_checkpointing to false."
            )

    @torch.no_grad()
    def _is_random(self) -> bool:
        tokens = torch.arange(8, device=self.device).remainder(3)[None]
        first, second = (self.model(input_ids=tokens, use_cache=False).logits for _ in range(2))
        return not torch.allclose(first, second, atol=torch.finfo(first.dtype).eps ** 0.5)

    @torch.no_grad()
    def sharing_unsupported_reason(self) -> str | None:
        """Why `score` cannot share the computation of common prefixes; None if it can."""
        if self._recomputes:
            return "Activation checkpointing keeps no keys and values."
        try:
            AttentionMasks(self.model)
        except UserError as error:
            return str(error)
        return unsupported_reason(changed_by_sharing, self.model)

    def score(
        self,
        tokens: Int[Tensor, "B T"],
        attention_mask: Bool[Tensor, "B T"],
        score_mask: Bool[Tensor, "B T"],
        *,
        temperature: float = 1.0,
        support: Support | None = None,
        candidates: Int[Tensor, "N K"] | None = None,
        replay: Routing | None = None,
        record_routing: bool = False,
        prefix_groups: Int[Tensor, " B"] | None = None,
        pass_cost: int = PASS_COST,
    ) -> TokenScores:
        """Log-probability and entropy of each token in `score_mask`, given the tokens before it.

        Padding is on the right. Entry 0 of a row is never scored, since no token precedes it.
        Logits are only computed at the requested positions: in chunks for a plain head, and all at
        once in the model's dtype if the family applies a cap or factor.

        Args:
            temperature: Divisor of the logits, as in the engine that sampled the tokens.
            support: Supports of the scored tokens, row by row. Log-probabilities and entropies are
                those of the softmax restricted to them.
            candidates: Further tokens to score in the place of each scored one, row by row.
            replay: Expert choices to use instead of the model's own.
            record_routing: Whether to return the expert choices used.
            prefix_groups: Rows with equal numbers may share the computation of their common prefix.
            pass_cost: Overhead of a pass, in positions of equal duration.

        Raises:
            RuntimeError: `replay` was recorded on other tokens, or is missing at a required token.
            UserError: padding is on the left, or rows are so long that the model changes the rotary
                frequencies of the whole batch.
        """
        self._row_limit.check(tokens.shape[1])
        check_padding(attention_mask)
        if replay is not None:
            check_replay(replay, tokens, attention_mask)
        replayed = None if replay is None else replay.padded()
        selected = score_mask[:, 1:] & attention_mask[:, :-1]
        prefixes = None
        if prefix_groups is not None:
            prefixes = SharedPrefixes.of(
                tokens, attention_mask, prefix_groups, replayed, pass_cost=pass_cost
            )
        count = 1 if prefixes is None else prefixes.passes
        empty = self.access.passes(count) - count
        targets = tokens[:, 1:][selected][:, None]
        if candidates is not None:
            targets = torch.cat([targets, candidates], dim=1)
        work = partial(
            self._work, tokens, selected, targets, replayed, prefixes, temperature, support
        )
        logprobs, entropy, experts = self.access.run(
            partial(work, empty_passes=empty, record=record_routing)
        )
        assert logprobs is not None
        assert entropy is not None
        routing = None if experts is None else Routing.of(experts, attention_mask, tokens)
        return TokenScores(
            logprobs=at_positions(logprobs[:, 0], selected),
            entropy=at_positions(entropy, selected),
            routing=routing,
            candidates=None if candidates is None else logprobs[:, 1:],
        )

    def _work(
        self,
        tokens: Int[Tensor, "B T"],
        selected: Bool[Tensor, "B T-1"],
        targets: Int[Tensor, "N C"],
        replay: PaddedRouting | None,
        prefixes: SharedPrefixes | None,
        temperature: float,
        support: Support | None,
        *,
        empty_passes: int,
        record: bool,
    ) -> Results:
        """Log-probabilities of `targets` in the selected places, entropies, and any experts."""
        forward = partial(self._forward, record=record)
        if prefixes is None:
            at = nn.functional.pad(selected, (0, 1))
            features, experts = forward(whole_rows(tokens), at, replay)
        else:
            features, experts = prefixes.run(forward, self._masks, selected=selected)
        for _ in range(empty_passes):
            features = torch.cat([features, self._empty_pass(tokens)])
        scored = self._head.scores(
            features,
            targets,
            temperature=temperature,
            support=support,
            memory=self.logits_memory,
        )
        return *scored, experts

    def _empty_pass(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "0 D"]:
        """A forward pass over one token, whose features are not used."""
        one = tokens[:1, :1]
        return self._forward(whole_rows(one), torch.zeros_like(one).bool(), None, record=False)[0]

    @cached_property
    def _masks(self) -> AttentionMasks:
        return AttentionMasks(self.model, self.access.dtype)

    def _forward(
        self,
        inputs: dict[str, Any],
        at: Bool[Tensor, "b S"],
        replay: PaddedRouting | None,
        *,
        record: bool,
    ) -> tuple[Float[Tensor, "n D"], Tensor | None]:
        """Last states or logits at the positions `at`, and the experts used if recorded."""
        run = self._head.states if self._head.is_plain else self._head.logits
        if self.hook is None or (replay is None and not record):
            return run(inputs, at), None
        batch, length = at.shape
        with self.hook.watch((batch, length), replay=replay) as watch:
            features = run(inputs, at)
        return features, watch.experts().to(self.hook.dtype) if record else None
