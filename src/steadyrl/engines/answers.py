"""Answers of external engines, checked and converted to completions.

vLLM in this process returns objects, servers return JSON. Both become an `Answer` first, so that
every engine maps routes and checks its output by the same code.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from steadyrl.records.candidates import Candidates
from steadyrl.records.completion import Completion, FinishReason
from steadyrl.records.routing import Routing, expert_dtype


class EngineOutputError(RuntimeError):
    """The output of an engine is incomplete or inconsistent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoeShape:
    """Positions of a model's routers among its layers.

    Engines return routes of all layers; this package keeps only layers with experts.

    Example:
        MoeShape(layers=(0, 2, 3), num_experts=8, experts_per_token=2)  # layer 1 is dense
    """

    layers: tuple[int, ...]
    """Indices of the layers that have a router."""

    num_experts: int
    experts_per_token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One sampled answer as an engine returns it."""

    token_ids: Sequence[int]
    logprobs: Sequence[float]
    """Log-probability of each token under the distribution that it was sampled from."""

    finish_reason: str | None
    routed_experts: np.ndarray | None
    """`[P + R - 1, layers, K]`: experts of every input token in every layer."""

    candidates: Candidates | None = None
    """The engine's most probable tokens in place of each; None: not asked for."""


def completion(
    prompt_ids: Int[Tensor, " P"],
    answer: Answer,
    *,
    end_token_ids: set[int],
    moe: MoeShape | None,
    policy_version: int,
) -> Completion:
    """`answer` as a completion.

    Args:
        moe: Positions of the routers; None: routes are not read.

    Raises:
        EngineOutputError: tokens, log-probabilities, finish reason or routes are inconsistent.
    """
    if len(answer.logprobs) != len(answer.token_ids) or not len(answer.token_ids):
        raise EngineOutputError(
            f"The engine returned {len(answer.token_ids)} tokens with {len(answer.logprobs)} "
            "log-probabilities."
        )
    token_ids = torch.tensor(list(answer.token_ids))
    logprobs = torch.tensor(list(answer.logprobs), dtype=torch.float32)
    check_finite(logprobs)
    if answer.candidates is not None:
        check_finite(answer.candidates.logprobs.flatten())
    routing = None
    if moe is not None:
        fed = torch.cat([prompt_ids, token_ids])[:-1]
        routing = routing_of(answer.routed_experts, moe, fed)
    return Completion(
        prompt_ids=prompt_ids,
        token_ids=token_ids,
        logprobs=logprobs,
        finish_reason=_finish_reason(answer, end_token_ids),
        policy_version=policy_version,
        routing=routing,
        candidates=answer.candidates,
    )


def check_finite(logprobs: Float[Tensor, " T"]) -> None:
    """Returns if all log-probabilities are finite.

    Raises:
        EngineOutputError: one is not.
    """
    broken = int((~logprobs.isfinite()).sum())
    if broken:
        raise EngineOutputError(
            f"The engine returned {broken} log-probabilities that are not finite. Its weights may "
            "be corrupted."
        )


def _finish_reason(answer: Answer, end_token_ids: set[int]) -> FinishReason:
    ended = answer.token_ids[-1] in end_token_ids
    match answer.finish_reason:
        case "stop" if ended:
            return FinishReason.STOP
        case "length" if not ended:
            return FinishReason.LENGTH
    raise EngineOutputError(
        f"The engine finished an answer with reason {answer.finish_reason!r} after token "
        f"{answer.token_ids[-1]}, which is {'' if ended else 'not '}an end token."
    )


def routing_of(routed_experts: np.ndarray | None, moe: MoeShape, fed: Int[Tensor, " S"]) -> Routing:
    """Routes of the input tokens `fed`, in the layers that have experts.

    Raises:
        EngineOutputError: routes are missing, have another shape, or were not recorded.
    """
    if routed_experts is None:
        raise EngineOutputError("The engine returned no routes for a Mixture-of-Experts model.")
    layers = max(moe.layers) + 1
    found = routed_experts.shape
    if len(found) != 3 or found[0] != len(fed) or found[1] < layers or found[2] < 1:
        raise EngineOutputError(
            f"The engine returned routes of shape {found} for {len(fed)} input tokens of a model "
            f"with {layers} layers."
        )
    if found[2] != moe.experts_per_token:
        raise EngineOutputError(
            f"The engine routes each token to {found[2]} experts, the trainer to "
            f"{moe.experts_per_token}."
        )
    chosen = routed_experts[:, list(moe.layers)]
    lowest, highest = int(chosen.min(initial=0)), int(chosen.max(initial=0))
    if lowest < 0 or highest >= moe.num_experts:
        raise EngineOutputError(
            f"The engine returned expert {lowest if lowest < 0 else highest}, but the model has "
            f"{moe.num_experts} experts."
        )
    if found[2] > 1 and bool((chosen[..., 0] == chosen[..., 1]).any()):
        # A fused kernel that bypasses the recording leaves zeros.
        raise EngineOutputError(
            "The engine returned the same expert twice for one token: routes were not recorded."
        )
    experts = torch.from_numpy(chosen.astype(np.int32)).to(expert_dtype(moe.num_experts))
    known = torch.ones(1, len(fed), dtype=torch.bool)
    return Routing.of(experts[None], known, fed[None])
