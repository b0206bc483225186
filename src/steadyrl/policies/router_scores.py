"""Router scores of a forward pass: how probable routers find given experts."""

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from steadyrl.policies.policy import Policy
from steadyrl.policies.router_choice import Router, RouterChoice, SeeTopK, chooses_experts
from steadyrl.policies.row_tensors import whole_rows
from steadyrl.records.router_scores import RouterScores
from steadyrl.records.routing import Routing


@torch.no_grad()
def router_scores(
    policy: Policy,
    tokens: Int[Tensor, "B T"],
    *,
    of: RouterScores | None = None,
    replay: Routing | None = None,
) -> RouterScores:
    """The log-probabilities of experts in a pass over `tokens`, whose padding is on the right.

    Scores that are logits are normalized over the experts of their layer, and so are independent
    ones, such as those of sigmoids.

    Args:
        of: Whose experts are scored; None: those that the pass uses.
        replay: Expert choices for the pass to use.
    """
    hook = policy.hook
    assert hook is not None, "a dense model has no routers"
    levels: list[Tensor | None] = [None] * hook.num_layers

    def see(layer: int, choice: RouterChoice, router: Router, *args: Any, **kwargs: Any) -> Any:
        with SeeTopK() as seen:
            output = router(*args, **kwargs)
        levels[layer] = _levels(choice, seen.calls)
        return output

    padded = None if replay is None else replay.padded()
    shape = (tokens.shape[0], tokens.shape[1])
    with hook.seen_by(see), hook.watch(shape, replay=padded) as watch:
        policy.model.base_model(**whole_rows(tokens))
    experts = watch.experts().to(hook.dtype) if of is None else of.experts
    logprobs = [
        _required(level).log_softmax(dim=-1).unflatten(0, shape).gather(-1, experts[:, :, n].long())
        for n, level in enumerate(levels)
    ]
    return RouterScores(experts=experts, logprobs=torch.stack(logprobs, dim=2))


def _levels(choice: RouterChoice, calls: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The scores that the router chose by, as logits: one row for each token."""
    scores = next(
        scores
        for scores, indices in reversed(calls)
        if chooses_experts(choice, scores, indices.shape[-1])
    )
    live = scores.detach().float().flatten(0, -2)
    return live if bool((live < 0).any()) else live.log()


def _required(level: Tensor | None) -> Tensor:
    assert level is not None, "a router was not called"
    return level
