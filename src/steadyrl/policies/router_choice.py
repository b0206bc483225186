"""Detection and replacement of the top-k by which the routers of a family choose experts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Integer
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from steadyrl.base.errors import UserError
from steadyrl.policies.small_copy import FAILURES

Router = Callable[..., Any]
PROBE_TOKENS = 5
"""Number of tokens of the probe: a prime, to avoid confusion with other sizes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterChoice:
    """Description of the top-k of one router."""

    num_experts: int
    """Number of scores among which the top-k chooses, whether or not each belongs to an expert."""

    axes: int
    """Number of axes of the scores. A top-k over groups of experts has another shape."""

    experts_per_token: int

    place: int
    """Index of the chosen experts among the router's outputs."""

    def indices(self, output: Any) -> Integer[Tensor, "N K"]:
        """Chosen experts of every token, from the router's output."""
        chosen: Tensor = output[self.place]
        return chosen if chosen.dim() == 2 else chosen.reshape(-1, self.experts_per_token)


def observe_choices(model: PreTrainedModel, routers: Sequence[nn.Module]) -> list[RouterChoice]:
    """Observes how `routers` choose in a forward pass of `model` over a few tokens.

    Raises:
        UserError: a router does not return the indices of a top-k, or its layer is not computed.
    """
    family = type(model).__name__
    found: dict[int, RouterChoice | None] = {}
    for layer, router in enumerate(routers):
        router.forward = partial(_observe, found, layer, router.forward)
    try:
        with torch.no_grad():
            tokens = torch.arange(PROBE_TOKENS, device=model.device)[None]
            model(input_ids=tokens, use_cache=False)
    except FAILURES as error:
        raise unsupported(family) from error
    finally:
        for router in routers:
            del router.forward
    choices = [found.get(layer) for layer in range(len(routers))]
    known = [choice for choice in choices if choice is not None]
    if len(known) < len(routers) or len({choice.experts_per_token for choice in known}) > 1:
        raise unsupported(family)
    return known


def unsupported(family: str) -> UserError:
    """The error for a family whose routers do not support replay."""
    return UserError(
        f"{family} routes in a way that routing replay does not support: its routers must return "
        "the indices of one top-k over all experts, as many in each layer. Use routing_replay none."
    )


def _observe(
    found: dict[int, RouterChoice | None], layer: int, router: Router, *args: Any, **kwargs: Any
) -> Any:
    with SeeTopK() as seen:
        output = router(*args, **kwargs)
    found[layer] = _choice(output, seen.calls)
    return output


def _choice(output: Any, calls: Sequence[tuple[Tensor, Tensor]]) -> RouterChoice | None:
    """The last top-k among `calls` whose indices the router returns for every token."""
    outputs = output if isinstance(output, tuple) else ()
    for scores, indices in reversed(calls):
        for place, part in enumerate(outputs):
            if (
                isinstance(part, Tensor)
                and part.shape == indices.shape
                and part.numel() == PROBE_TOKENS * part.shape[-1]
                and torch.equal(part, indices)
            ):
                return RouterChoice(
                    num_experts=scores.shape[-1],
                    axes=scores.dim(),
                    experts_per_token=part.shape[-1],
                    place=place,
                )
    return None


class SeeTopK(TorchFunctionMode):
    """Records the input scores and the chosen indices of each `topk` call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Tensor, Tensor]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (torch.topk, Tensor.topk):
            self.calls.append((_scores(args, kwargs), result.indices))
        return result


class AnswerTopK(TorchFunctionMode):
    """Replaces the result of the `topk` over a router's experts by given indices."""

    def __init__(
        self,
        choice: RouterChoice,
        experts: Integer[Tensor, "N K"],
        known: Bool[Tensor, " N"] | None,
    ) -> None:
        super().__init__()
        self._choice = choice
        self._experts = experts
        self._known = known
        self.answers = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func not in (torch.topk, Tensor.topk):
            return result
        scores, shape = _scores(args, kwargs), result.indices.shape
        ours = chooses_experts(self._choice, scores, shape[-1])
        if not ours or shape.numel() != self._experts.numel():
            return result
        self.answers += 1
        experts = self._experts.view(shape)
        if self._known is not None:
            experts = torch.where(self._known.view(shape[:-1])[..., None], experts, result.indices)
        return torch.return_types.topk((scores.gather(-1, experts), experts))


def chooses_experts(choice: RouterChoice, scores: Tensor, count: int) -> bool:
    """Whether a top-k of `count` among `scores` is the router's top-k described by `choice`."""
    expected = (choice.num_experts, choice.axes, choice.experts_per_token)
    return (scores.shape[-1], scores.dim(), count) == expected


def _scores(args: tuple[Any, ...], kwargs: Any) -> Tensor:
    return args[0] if args else kwargs["input"]
