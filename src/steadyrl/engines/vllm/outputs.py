"""What vLLM returns, as the records of this package.

In this process an answer is an object of vLLM's, from a server it is JSON; both come down to the
same arrays here.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from steadyrl.records.completion import Completion, FinishReason
from steadyrl.records.routing import Routing, expert_dtype


class EngineOutputError(RuntimeError):
    """The engine returned something that cannot be learned from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoeShape:
    """Where a model's routers are: vLLM numbers all layers, this package those with experts.

    Example:
        MoeShape(layers=(0, 2, 3), num_experts=8, experts_per_token=2)  # layer 1 is dense
    """

    layers: tuple[int, ...]
    """Index of each layer that has a router, among all layers."""

    num_experts: int
    experts_per_token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One sampled answer, as vLLM names its parts."""

    token_ids: Sequence[int]
    logprobs: Sequence[float]
    """Of each token, under the distribution that it was drawn from."""

    finish_reason: str | None
    routed_experts: np.ndarray | None
    """`[P + R - 1, layers, K]`: every fed token, every layer."""


def completion(
    prompt_ids: Int[Tensor, " P"],
    answer: Answer,
    *,
    end_token_ids: set[int],
    moe: MoeShape | None,
    policy_version: int,
) -> Completion:
    """`answer` to a prompt, checked.

    Args:
        moe: Where its routing is to be read; None leaves it out.

    Raises:
        EngineOutputError: tokens, log-probabilities, end or routes do not fit together.
    """
    if len(answer.logprobs) != len(answer.token_ids) or not len(answer.token_ids):
        raise EngineOutputError(
            f"vLLM returned {len(answer.token_ids)} tokens with {len(answer.logprobs)} "
            "log-probabilities."
        )
    token_ids = torch.tensor(list(answer.token_ids))
    logprobs = torch.tensor(list(answer.logprobs), dtype=torch.float32)
    if not bool(logprobs.isfinite().all()):
        raise EngineOutputError(
            f"vLLM returned {int((~logprobs.isfinite()).sum())} log-probabilities that are not "
            "finite: its weights may be broken."
        )
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
    )


def _finish_reason(answer: Answer, end_token_ids: set[int]) -> FinishReason:
    ended = answer.token_ids[-1] in end_token_ids
    match answer.finish_reason:
        case "stop" if ended:
            return FinishReason.STOP
        case "length" if not ended:
            return FinishReason.LENGTH
    raise EngineOutputError(
        f"vLLM ended an answer with reason {answer.finish_reason!r} after the token "
        f"{answer.token_ids[-1]}, which is {'' if ended else 'not '}an end token."
    )


def routing_of(routed_experts: np.ndarray | None, moe: MoeShape, fed: Int[Tensor, " S"]) -> Routing:
    """The routes of the tokens that were fed, in the layers that have experts.

    Raises:
        EngineOutputError: they are missing, of another shape, or cannot have been recorded.
    """
    if routed_experts is None:
        raise EngineOutputError("vLLM returned no routes for a Mixture-of-Experts model.")
    layers = max(moe.layers) + 1
    found = routed_experts.shape
    if len(found) != 3 or found[0] != len(fed) or found[1] < layers or found[2] < 1:
        raise EngineOutputError(
            f"vLLM returned routes of shape {found} for {len(fed)} fed tokens of a model with "
            f"{layers} layers."
        )
    if found[2] != moe.experts_per_token:
        raise EngineOutputError(
            f"vLLM routes each token to {found[2]} experts, the trainer to {moe.experts_per_token}."
        )
    chosen = routed_experts[:, list(moe.layers)]
    if int(chosen.max(initial=0)) >= moe.num_experts:
        raise EngineOutputError(
            f"vLLM names expert {int(chosen.max())}, but the model has {moe.num_experts}."
        )
    if found[2] > 1 and bool((chosen[..., 0] == chosen[..., 1]).any()):
        # A fused kernel that bypasses the recording leaves zeros.
        raise EngineOutputError(
            "vLLM returned the same expert twice for a token: its routes were not recorded."
        )
    experts = torch.from_numpy(chosen.astype(np.int32)).to(expert_dtype(moe.num_experts))
    known = torch.ones(1, len(fed), dtype=torch.bool)
    return Routing.of(experts[None], known, fed[None])


def decoded_routes(text: str | None) -> np.ndarray | None:
    """The array in a server's `routed_experts`: base64 of a `.npy` file.

    Raises:
        EngineOutputError: it is something else.
    """
    if text is None:
        return None
    try:
        return np.load(io.BytesIO(base64.b64decode(text, validate=True)), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise EngineOutputError(f"vLLM's routes cannot be read: {error}") from error


def sampled_logprobs(token_ids: Sequence[int], logprobs: Any) -> list[float]:
    """Of each sampled token, from vLLM's list of mappings from token ids to `Logprob`."""
    entries = [] if logprobs is None else logprobs
    return [float(entry[token].logprob) for entry, token in zip(entries, token_ids, strict=False)]


def given_logprobs(
    tokens: Int[Tensor, " T"], entries: Sequence[Mapping[Any, Any] | None] | None
) -> Float[Tensor, " T"]:
    """Of each given token, 0 for the first one, from vLLM's `prompt_logprobs`.

    In JSON, token ids are text and log-probabilities stand in a mapping.

    Raises:
        EngineOutputError: one is missing or not finite.
    """
    if entries is None or len(entries) != len(tokens):
        found = "no scores" if entries is None else f"{len(entries)} scores"
        raise EngineOutputError(f"vLLM returned {found} for {len(tokens)} given tokens.")
    scores = [0.0]
    for token, entry in zip(tokens.tolist()[1:], entries[1:], strict=True):
        found_entry = None if entry is None else entry.get(token, entry.get(str(token)))
        if found_entry is None:
            raise EngineOutputError(f"vLLM returned no score for the given token {token}.")
        value = found_entry["logprob"] if isinstance(found_entry, Mapping) else found_entry.logprob
        scores.append(float(value))
    result = torch.tensor(scores)
    if not bool(result.isfinite().all()):
        raise EngineOutputError(
            "vLLM returned scores that are not finite: its weights may be broken."
        )
    return result
