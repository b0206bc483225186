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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Bool, Integer
from torch import Tensor
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from steadyrl.policies.compat import in_backward_pass
from steadyrl.policies.routers import find_routers
from steadyrl.records.errors import UserError
from steadyrl.records.routing import Routing, expert_dtype

RouterOutput = tuple[Tensor, Tensor, Tensor]
Router = Callable[..., RouterOutput]


class _AnswerTopK(TorchFunctionMode):
    """Answers the `topk` over a router's experts with given indices."""

    def __init__(
        self, num_experts: int, experts: Integer[Tensor, "N K"], known: Bool[Tensor, " N"] | None
    ) -> None:
        super().__init__()
        self._shape = (experts.shape[0], num_experts)
        self._experts = experts
        self._known = known
        self.answers = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func not in (torch.topk, Tensor.topk) or args[0].shape != self._shape:
            return result
        if result.indices.shape != self._experts.shape:
            return result
        self.answers += 1
        experts = self._experts
        if self._known is not None:
            experts = torch.where(self._known[:, None], experts, result.indices)
        return torch.return_types.topk((args[0].gather(-1, experts), experts))


class Watch:
    """What the routers did, and are told to do, in one forward pass over `B` x `T` tokens."""

    def __init__(self, shape: tuple[int, int], num_layers: int, replay: Routing | None) -> None:
        self.shape = shape
        self.replay = replay
        self.used: list[Tensor | None] = [None] * num_layers
        self._rows: list[Tensor] = []
        self._known: Tensor | None = None
        if replay is not None:
            by_layer = replay.experts.flatten(0, 1).unbind(dim=1)
            self._rows = [rows.long() for rows in by_layer]
            self._known = None if bool(replay.known.all()) else replay.known.flatten()

    def route(self, layer: int, num_experts: int, router: Router, args: Any, kwargs: Any) -> Any:
        """What `router` returns, with the replayed choice if there is one."""
        if self.replay is None:
            output = router(*args, **kwargs)
        else:
            with _AnswerTopK(num_experts, self._rows[layer], self._known) as answer:
                output = router(*args, **kwargs)
            if answer.answers != 1:
                raise RuntimeError(
                    f"Routing replay answered {answer.answers} top-k calls in MoE layer {layer}, "
                    "expected 1. The router saw another number of tokens than the routing holds "
                    f"({self._rows[layer].shape[0]}), or its forward pass changed."
                )
        self.used[layer] = output[2].detach()
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
            agrees = (self.experts() == self.replay.experts).all(dim=-1).all(dim=-1)
            if not bool((agrees | ~self.replay.known).all()):
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

    Raises:
        UserError: the family's routers do not keep the contract (logits, weights, indices), or are
            wrapped already.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.routers = find_routers(model)
        first = self.routers[0]
        self.num_experts: int = cast(int, first.num_experts)
        self.experts_per_token: int = cast(int, first.top_k)
        self.dtype = expert_dtype(self.num_experts)
        self._current = threading.local()
        family = type(model).__name__
        for layer, router in enumerate(self.routers):
            if "forward" in vars(router):
                raise UserError(f"{family} is hooked already. Make one Policy of each model.")
            forward = router.forward
            router.forward = partial(self._route, layer, forward)
        try:
            _check_contract(self, family)
        except UserError:
            for router in self.routers:
                del router.forward  # what remains is the family's own
            raise

    @property
    def num_layers(self) -> int:
        """MoE layers. Layers without experts do not count."""
        return len(self.routers)

    @contextmanager
    def watch(self, shape: tuple[int, int], replay: Routing | None = None) -> Iterator[Watch]:
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

    def _route(self, layer: int, router: Router, *args: Any, **kwargs: Any) -> RouterOutput:
        watch = self._watch
        if watch is not None:
            return watch.route(layer, self.num_experts, router, args, kwargs)
        if in_backward_pass():
            raise RuntimeError(
                "A router was recomputed in the backward pass without its routing. Enable it with "
                "Policy.enable_activation_checkpointing(), which carries the routing along."
            )
        return router(*args, **kwargs)


def _check_contract(hook: RoutingHook, family: str) -> None:
    """Replays choices of every expert through the first router and sees what comes out."""
    router = hook.routers[0]
    weight = next(router.parameters())
    choice = _choices_of_all(hook.num_experts, hook.experts_per_token).to(weight.device)
    tokens = len(choice)
    # All but zero, so that no gate weight is small because of what is scored.
    hidden = torch.linspace(-1e-3, 1e-3, tokens * weight.shape[-1]).view(tokens, -1).to(weight)
    row = choice[None, :, None].expand(1, tokens, hook.num_layers, -1)
    known = torch.ones(1, tokens, dtype=torch.bool, device=weight.device)
    replay = Routing(experts=row, known=known, fed_tokens=torch.zeros(1, dtype=torch.long))
    watch = Watch((1, tokens), hook.num_layers, replay)
    try:
        with torch.no_grad(), _Watching(hook._current, watch):
            output = router(hidden)
        kept = isinstance(output, tuple) and len(output) == 3 and torch.equal(output[2], choice)
        live = kept and bool((output[1].isfinite() & (output[1] != 0)).all())
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
        raise _unsupported(family) from error
    if not kept:
        raise _unsupported(family)
    if not live:
        raise UserError(
            f"{family} gives an expert that is replayed a gate weight of 0 where its router would "
            "not have considered it, as outside the groups of experts that a token is limited to, "
            "so that replay would switch the expert off. Use routing_replay none."
        )


def _choices_of_all(num_experts: int, experts_per_token: int) -> Integer[Tensor, "N K"]:
    """Choices of two tokens or more that together name every expert, in no order of theirs."""
    tokens = max(2, -(-num_experts // experts_per_token))
    numbers = torch.arange(tokens * experts_per_token) % num_experts
    return numbers.view(tokens, -1).flip(1)


def _unsupported(family: str) -> UserError:
    return UserError(
        f"{family} routes in a way that routing replay does not know: its router must return "
        "(logits, weights, indices) and choose by one top-k over all experts. Use routing_replay "
        "none."
    )
