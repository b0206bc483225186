"""Recording and replaying the expert choices of any Mixture-of-Experts model of Transformers.

    with hook.watch((B, T), replay=routing) as watch:
        model(...)                       # experts are those of `routing`
    experts = watch.experts()            # Int[Tensor, "B T L K"]: what each layer used

Only the *choice* of experts is replayed: inside the router's own forward pass, the one `topk` over
its experts is answered with the replayed indices and the live scores gathered there. So
every family keeps its own rule from scores to gate weights, and the router keeps its gradient
(arXiv:2510.11370, method section).

A `Watch` belongs to one forward pass. Under activation checkpointing, `checkpoint_contexts`
carries it to the recomputation, so several micro-batches may be in flight. A recomputation that
has lost its watch is refused, never routed live.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Integer
from torch import Tensor
from transformers import PreTrainedModel

from steadyrl.base.errors import UserError
from steadyrl.policies.compat import in_backward_pass
from steadyrl.policies.probes import unsupported_reason
from steadyrl.policies.replay_probe import replay_unsupported_reason
from steadyrl.policies.router_choice import AnswerTopK, Router, RouterChoice, observe_choices
from steadyrl.policies.routers import find_routers
from steadyrl.policies.routing_noise import RoutingNoise
from steadyrl.records.routing import PaddedRouting, expert_dtype


class Watch:
    """What the routers did, and are told to do, in one forward pass over `B` x `T` tokens."""

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
        """What `router` returns, with the replayed choice if there is one."""
        if self.replay is None:
            output = router(*args, **kwargs)
        else:
            experts = self._rows[layer].long()
            with AnswerTopK(choice, experts, self._known) as answer:
                output = router(*args, **kwargs)
            if answer.answers != 1:
                raise RuntimeError(
                    f"Routing replay answered {answer.answers} top-k calls in MoE layer {layer}, "
                    "expected 1. The router saw another number of tokens than the routing holds "
                    f"({len(experts)}), or its forward pass changed."
                )
        self.used[layer] = choice.indices(output)
        return output

    def experts(self) -> Integer[Tensor, "B T L K"]:
        """The experts each layer used."""
        used = [rows for rows in self.used if rows is not None]
        return torch.stack(used, dim=1).unflatten(0, self.shape)

    def verify(self) -> None:
        """Proves that every layer was routed, once for each token, and as the replay demands."""
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
    """Within it, a thread's routers are watched by `watch`. It may be entered again and again.

    As every backward pass over one graph does.
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
    """Records and replays the routing of `model`, whose routers it wraps.

    Args:
        prove: Whether to prove on a small copy of `model` that replay does what it should.
        noise: Perturbs the choices that are not replayed.

    Raises:
        UserError: the family's routers do not return the indices of one top-k over all experts,
            give no weight to some replayed experts, or are wrapped already.
    """

    def __init__(
        self, model: PreTrainedModel, *, prove: bool = True, noise: RoutingNoise | None = None
    ) -> None:
        self.routers = find_routers(model)
        family = type(model).__name__
        if any("forward" in vars(router) for router in self.routers):
            raise UserError(f"{family} is hooked already. Make one Policy of each model.")
        self._choices = observe_choices(model, self.routers)
        self.num_experts = max(choice.num_experts for choice in self._choices)
        self.experts_per_token = self._choices[0].experts_per_token
        self.dtype = expert_dtype(self.num_experts)
        self._noise = noise
        self._current = threading.local()
        reason = unsupported_reason(_prove, model) if prove else None
        if reason is not None:
            raise UserError(reason)
        for layer, router in enumerate(self.routers):
            router.forward = partial(self._route, layer, router.forward)

    def remove(self) -> None:
        """Leaves the routers to themselves again."""
        for router in self.routers:
            del router.forward

    @property
    def num_layers(self) -> int:
        """MoE layers. Layers without experts do not count."""
        return len(self.routers)

    @contextmanager
    def watch(self, shape: tuple[int, int], replay: PaddedRouting | None = None) -> Iterator[Watch]:
        """Watches one forward pass over `B` x `T` tokens and replays `replay` in it.

        Raises:
            UserError: `replay` is of another shape than the forward pass.
            RuntimeError: a layer was not routed as it should have been.
        """
        if replay is not None:
            expected = (*shape, self.num_layers, self.experts_per_token)
            if tuple(replay.experts.shape) != expected:
                raise UserError(
                    f"Routing to replay has shape {tuple(replay.experts.shape)}, expected "
                    f"(B, T, L, K) = {expected}. Record it with a model of the same architecture."
                )
        watch = Watch(shape, self.num_layers, replay)
        with _Watching(self._current, watch):
            yield watch
        watch.verify()

    def checkpoint_contexts(self) -> tuple[Any, Any]:
        """`context_fn` of `torch.utils.checkpoint`: the recomputation sees its forward's watch.

        A forward pass that nobody watches is routed live, then and when it is recomputed.
        """
        watch = self._watch or Watch((0, 0), self.num_layers, None)
        return _Watching(self._current, watch), _Watching(self._current, watch)

    @property
    def _watch(self) -> Watch | None:
        return getattr(self._current, "watch", None)

    def _route(self, layer: int, router: Router, *args: Any, **kwargs: Any) -> Any:
        watch, choice = self._watch, self._choices[layer]
        if self._noise is not None and (watch is None or watch.replay is None):
            router = partial(self._noise.route, layer, choice, router)
        if watch is not None:
            return watch.route(layer, choice, router, args, kwargs)
        if in_backward_pass():
            raise RuntimeError(
                "A router was recomputed in the backward pass without its routing. Enable it with "
                "Policy.enable_activation_checkpointing(), which carries the routing along."
            )
        return router(*args, **kwargs)


def _prove(model: PreTrainedModel) -> str | None:
    hook = RoutingHook(model, prove=False)
    try:
        return replay_unsupported_reason(model, hook)
    finally:
        hook.remove()
