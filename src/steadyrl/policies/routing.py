"""Recording and replaying the expert choices of any Mixture-of-Experts model of Transformers.

    with hook.record() as rollout:
        tokens = model.generate(...)
    routing = rollout.routing(tokens, attention_mask)

    with hook.replay(routing, attention_mask):
        model(tokens, ...)               # experts are those of `routing`

Only the *choice* of experts is replayed: inside the router's own forward pass, the result of the
single `topk` over experts is replaced by the replayed indices and the live scores at these indices.
So every family keeps its own rule for gate weights, and the router keeps its gradient
(arXiv:2510.11370, method section).

`record` and `replay` serve any training loop. Both open a `Watch` for each forward pass; `watch`
opens one for a pass whose shape is known. With activation checkpointing, `checkpoint_contexts`
passes it on to the recomputation, so several micro-batches can be in flight. A recomputation
without its watch raises an error and is never routed live.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Integer
from torch import Tensor
from transformers import PreTrainedModel

from steadyrl.base.errors import UserError
from steadyrl.policies.compat import checkpointed_with, in_backward_pass
from steadyrl.policies.probes import unsupported_reason
from steadyrl.policies.replay_probe import replay_unsupported_reason
from steadyrl.policies.routed_passes import RoutingRecord, RowsToReplay, embedded_tokens
from steadyrl.policies.router_choice import AnswerTopK, Router, RouterChoice, observe_choices
from steadyrl.policies.routers import find_routers
from steadyrl.policies.routing_noise import RoutingNoise
from steadyrl.records.routing import PaddedRouting, Routing, expert_dtype


class Watch:
    """Expert choices recorded and replayed in one forward pass over `B` x `T` tokens."""

    def __init__(
        self, shape: tuple[int, int], num_layers: int, replay: PaddedRouting | None
    ) -> None:
        self.shape = shape
        self.replay = replay
        self.used: list[Tensor | None] = [None] * num_layers
        self._rows: list[Tensor] = []
        self._known: Tensor | None = None
        if replay is not None:
            self._rows = list(replay.experts.flatten(0, 1).unbind(dim=1))
            self._known = None if bool(replay.known.all()) else replay.known.flatten()

    def route(
        self, layer: int, choice: RouterChoice, router: Router, args: Any, kwargs: Any
    ) -> Any:
        """Calls `router`, with the replayed choice if there is one, and records its choice."""
        if self.replay is None:
            output = router(*args, **kwargs)
        else:
            experts = self._rows[layer].long()
            with AnswerTopK(choice, experts, self._known) as answer:
                output = router(*args, **kwargs)
            if answer.answers != 1:
                raise RuntimeError(
                    f"Routing replay answered {answer.answers} top-k calls in MoE layer {layer}, "
                    "expected 1. The number of tokens differs from the routing's "
                    f"({len(experts)}), or the router's forward pass changed."
                )
        self.used[layer] = choice.indices(output)
        return output

    def experts(self) -> Integer[Tensor, "B T L K"]:
        """Experts used by each layer."""
        used = [rows for rows in self.used if rows is not None]
        return torch.stack(used, dim=1).unflatten(0, self.shape)

    def verify(self) -> None:
        """Checks that every layer routed each token once, and used the replayed experts."""
        tokens = self.shape[0] * self.shape[1]
        for layer, rows in enumerate(self.used):
            if rows is None:
                raise RuntimeError(
                    f"MoE layer {layer} was never routed in this forward pass. A fused kernel may "
                    "have replaced its router: load the model without hub kernels."
                )
            if rows.shape[0] != tokens:
                raise RuntimeError(
                    f"MoE layer {layer} routed {rows.shape[0]} tokens, expected {tokens}."
                )
        if self.replay is not None:
            wrong = self.experts() != self.replay.experts
            if self._known is not None:
                wrong &= self.replay.known[..., None, None]
            if bool(wrong.any()):
                raise RuntimeError("Experts used differ from the experts replayed.")


class _Watching:
    """Context in which `watch` is current in this thread.

    It can be entered repeatedly, once per backward pass over the same graph.
    """

    def __init__(self, current: threading.local, watch: Watch) -> None:
        self._current = current
        self._watch = watch
        self._previous: list[Watch | None] = []

    def __enter__(self) -> None:
        self._previous.append(getattr(self._current, "watch", None))
        self._current.watch = self._watch

    def __exit__(self, *_: object) -> None:
        self._current.watch = self._previous.pop()


class RoutingHook:
    """Records and replays the routing of `model` by wrapping its routers.

    Example:
        hook = RoutingHook(model)
        with hook.record() as rollout:
            tokens = model.generate(prompts, do_sample=True)
        with hook.replay(rollout.routing(tokens, attention_mask), attention_mask):
            logits = model(tokens, attention_mask=attention_mask).logits

    Args:
        verify: Whether to check on a small copy of `model` that replay is correct.
        noise: Perturbation of choices that are not replayed.

    Raises:
        UserError: the family's routers do not return the indices of one top-k over all experts,
            give no weight to some replayed experts, or are already wrapped.
    """

    def __init__(
        self, model: PreTrainedModel, *, verify: bool = True, noise: RoutingNoise | None = None
    ) -> None:
        self.routers = find_routers(model)
        family = type(model).__name__
        if any("forward" in vars(router) for router in self.routers):
            raise UserError(f"{family} is already hooked. Create only one Policy per model.")
        self._model = model
        self._choices = observe_choices(model, self.routers)
        self.num_experts = max(choice.num_experts for choice in self._choices)
        self.experts_per_token = self._choices[0].experts_per_token
        self.dtype = expert_dtype(self.num_experts)
        self._noise = noise
        self._current = threading.local()
        reason = unsupported_reason(_verify, model) if verify else None
        if reason is not None:
            raise UserError(reason)
        for layer, router in enumerate(self.routers):
            router.forward = partial(self._route, layer, router.forward)

    def remove(self) -> None:
        """Unwraps the routers."""
        for router in self.routers:
            del router.forward

    @property
    def num_layers(self) -> int:
        """Number of MoE layers, without layers that have no experts."""
        return len(self.routers)

    @contextmanager
    def record(self) -> Iterator[RoutingRecord]:
        """Records the experts used by the forward passes in this context.

        Raises:
            RuntimeError: a layer was not routed as expected.
        """
        record = RoutingRecord()
        with self._each_pass(lambda _: None, record):
            yield record

    @contextmanager
    def replay(
        self, routing: Routing, attention_mask: Integer[Tensor, "B T"]
    ) -> Iterator[RoutingRecord]:
        """Replays `routing` in the forward passes in this context, and records the experts used.

        The passes go through the rows of `routing` in order, over all tokens of a row at once.
        Under activation checkpointing, the backward pass may follow outside the context.

        Raises:
            UserError: the routing is that of another architecture, or activation checkpointing is
                reentrant.
            RuntimeError: the routing was recorded on other tokens, misses a token, or was not
                replayed on every row.
        """
        record, rows = RoutingRecord(), RowsToReplay(routing, attention_mask)
        with self._each_pass(rows.next, record):
            yield record
        rows.finish()

    @contextmanager
    def _each_pass(
        self, replay_of: Callable[[Tensor], PaddedRouting | None], record: RoutingRecord
    ) -> Iterator[None]:
        """Opens a watch for each forward pass, and adds what it saw to `record`."""
        open_passes: list[tuple[Tensor, Watch]] = []

        def finish() -> None:
            for tokens, watch in open_passes:
                watch.verify()
                record.add(tokens, watch.experts().to(self.dtype))
            open_passes.clear()

        def begin(tokens: Tensor) -> None:
            finish()
            watch = self._new_watch((tokens.shape[0], tokens.shape[1]), replay_of(tokens))
            self._current.watch = watch
            open_passes.append((tokens, watch))

        previous = self._watch
        embeddings = self._model.get_input_embeddings()
        handle = embeddings.register_forward_pre_hook(embedded_tokens(begin), with_kwargs=True)
        try:
            with checkpointed_with(self._model, self.checkpoint_contexts):
                yield
            finish()
        finally:
            handle.remove()
            self._current.watch = previous

    @contextmanager
    def watch(self, shape: tuple[int, int], replay: PaddedRouting | None = None) -> Iterator[Watch]:
        """Records one forward pass over `B` x `T` tokens, replaying `replay` if it is given.

        Raises:
            UserError: the shape of `replay` differs from the forward pass.
            RuntimeError: a layer was not routed as expected.
        """
        watch = self._new_watch(shape, replay)
        with _Watching(self._current, watch):
            yield watch
        watch.verify()

    def _new_watch(self, shape: tuple[int, int], replay: PaddedRouting | None) -> Watch:
        if replay is not None:
            expected = (*shape, self.num_layers, self.experts_per_token)
            if tuple(replay.experts.shape) != expected:
                raise UserError(
                    f"Routing to replay has shape {tuple(replay.experts.shape)}, expected "
                    f"(B, T, L, K) = {expected}. Record it with a model of the same architecture."
                )
        return Watch(shape, self.num_layers, replay)

    @contextmanager
    def seen_by(self, see: Callable[..., Any]) -> Iterator[None]:
        """Lets `see(layer, choice, router, ...)` call each router with its arguments."""
        self._current.see = see
        try:
            yield
        finally:
            self._current.see = None

    def checkpoint_contexts(self) -> tuple[Any, Any]:
        """`context_fn` for `torch.utils.checkpoint` that passes the watch to the recomputation.

        A forward pass without a watch is routed live, also when it is recomputed.
        """
        watch = self._watch or Watch((0, 0), self.num_layers, None)
        return _Watching(self._current, watch), _Watching(self._current, watch)

    @property
    def _watch(self) -> Watch | None:
        return getattr(self._current, "watch", None)

    def _route(self, layer: int, router: Router, *args: Any, **kwargs: Any) -> Any:
        watch, choice = self._watch, self._choices[layer]
        see = getattr(self._current, "see", None)
        if see is not None:
            router = partial(see, layer, choice, router)
        if self._noise is not None and (watch is None or watch.replay is None):
            router = partial(self._noise.route, layer, choice, router)
        if watch is not None:
            return watch.route(layer, choice, router, args, kwargs)
        if in_backward_pass():
            raise RuntimeError(
                "A router was recomputed in the backward pass without its routing. Make the "
                "forward pass inside record() or replay(), or enable activation checkpointing by "
                "Policy.enable_activation_checkpointing(), so that the routing is carried along."
            )
        return router(*args, **kwargs)


def _verify(model: PreTrainedModel) -> str | None:
    hook = RoutingHook(model, verify=False)
    try:
        return replay_unsupported_reason(model, hook)
    finally:
        hook.remove()
