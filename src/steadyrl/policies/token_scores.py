"""Log-probability and entropy of tokens, given the states or logits that predict them.

With h the state that predicts token y, W the output head and T the temperature:

    z = W h / T      p = softmax(z)      log p(y) = z_y - logsumexp(z)      H = -sum_v p_v log p_v

    d log p(y) / dz = onehot(y) - p

With truncated sampling the sums are over the support of the token alone, and p is 0 outside it.

The backward pass only needs p. It is stored if it fits into the given memory, and recomputed in
chunks otherwise.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from steadyrl.policies.float32_head import Float32Linear
from steadyrl.policies.products import linear
from steadyrl.records.routing import Routing
from steadyrl.records.support import Support

LOGITS_MEMORY = 1 << 30
"""Maximum bytes of probabilities stored for the backward pass."""

WORKING_MEMORY = 64 << 20
"""Maximum bytes of temporary logits, in addition to stored probabilities."""

_CACHE = 4 << 20
"""Bytes of logits per chunk that should stay in the CPU cache."""

_LEAST = -1e5
"""Lower bound of logits relative to the highest: they have probability 0 in any dtype."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenScores:
    """Scores of given tokens under a policy; 0 at tokens that were not requested."""

    logprobs: Float[Tensor, "B T"]

    entropy: Float[Tensor, "B T"]
    """Entropy in nats of the distribution that was sampled from, without gradient."""

    routing: Routing | None
    """Experts used in the forward pass; None: not recorded."""

    candidates: Float[Tensor, "N K"] | None = None
    """Log-probabilities of the candidates of each requested token; None: none were given."""


def scores_by_head(
    features: Float[Tensor, "N D"],
    head: nn.Linear,
    targets: Int[Tensor, "N C"],
    *,
    temperature: float,
    support: Support | None = None,
    memory: int = LOGITS_MEMORY,
    working_memory: int = WORKING_MEMORY,
) -> tuple[Float[Tensor, "N C"], Float[Tensor, " N"]]:
    """Log-probabilities of `targets`, and the entropy in nats, which carries no gradient.

    Args:
        targets: `C` tokens in each place.
        support: Supports of the places; None: the whole vocabulary.
        head: Output head. With a `Float32Linear`, logits and their gradients are in float32.
        memory: Maximum bytes of probabilities stored for the backward pass.
        working_memory: Maximum bytes of temporary logits.
    """
    bytes_per_row = 4 * len(head.weight)
    keeps = torch.is_grad_enabled() and len(features) * bytes_per_row <= memory
    rows = max(1, working_memory // bytes_per_row)
    dtype = torch.float32 if isinstance(head, Float32Linear) else head.weight.dtype
    logprobs, entropy = _ScoresByHead.apply(  # type: ignore[no-untyped-call]
        features, head.weight, head.bias, targets, temperature, support, keeps, rows, dtype
    )
    return logprobs, entropy


def scores_of_logits(
    logits: Float[Tensor, "N V"],
    targets: Int[Tensor, "N C"],
    *,
    temperature: float,
    support: Support | None = None,
    memory: int = LOGITS_MEMORY,
    working_memory: int = WORKING_MEMORY,
) -> tuple[Float[Tensor, "N C"], Float[Tensor, " N"]]:
    """The same as `scores_by_head`, for given `logits`."""
    bytes_per_row = 4 * logits.shape[1]
    keeps = torch.is_grad_enabled() and len(logits) * bytes_per_row <= memory
    score = _scores if keeps else partial(checkpoint, _scores, use_reentrant=False)
    rows = max(1, working_memory // bytes_per_row)
    pieces = zip(logits.split(rows), targets.split(rows), _split(support, rows), strict=False)
    parts = [score(some, theirs, temperature, within) for some, theirs, within in pieces]
    logprobs, entropy = (torch.cat(values) for values in zip(*parts, strict=True))
    return logprobs, entropy


def _scores(
    logits: Float[Tensor, "N V"],
    targets: Int[Tensor, "N C"],
    temperature: float,
    support: Support | None,
) -> tuple[Float[Tensor, "N C"], Float[Tensor, " N"]]:
    scaled = _widened(logits) / temperature
    if support is not None:
        scaled = scaled.masked_fill(support.excluded(scaled.shape[1]), -torch.inf)
    normalizer = scaled.logsumexp(dim=-1, keepdim=True)
    logprobs = scaled.gather(-1, targets) - normalizer
    with torch.no_grad():
        entropy = torch.special.entr((scaled - normalizer).exp()).sum(dim=-1)
    return logprobs, entropy


class _ScoresByHead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        support: Support | None,
        keeps: bool,
        rows: int,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        kept: list[Tensor] = []
        parts = []
        head = _cast(weight, bias, dtype)
        pieces = zip(features.split(rows), targets.split(rows), _split(support, rows), strict=False)
        for some, their_targets, within in pieces:
            logits = _logits(some, *head, temperature, within)
            parts.append(_normalize(logits, their_targets, in_place=keeps))
            kept += [logits] if keeps else []
        logprobs, entropy, normalizers = (torch.cat(values) for values in zip(*parts, strict=True))
        ctx.save_for_backward(features, weight, bias, targets, normalizers)
        ctx.temperature, ctx.rows, ctx.kept, ctx.dtype = temperature, rows, kept, dtype
        ctx.support = support
        ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        features, weight, bias, targets, normalizers = ctx.saved_tensors
        needed = ctx.needs_input_grad
        of_features = torch.empty_like(features) if needed[0] else None
        # Gradients are summed over chunks, whose number grows with the vocabulary, in float32.
        of_weight, of_bias = (
            torch.zeros_like(value, dtype=_wide(value.dtype)) if needs_gradient else None
            for value, needs_gradient in zip((weight, bias), needed[1:3], strict=True)
        )
        head = _cast(weight, bias, ctx.dtype)
        scales = gradients[0] / ctx.temperature
        totals = scales.sum(dim=1, keepdim=True)
        kept, ctx.kept = ctx.kept, []  # a second backward pass recomputes the probabilities
        starts = range(0, len(features), ctx.rows)
        within = _split(ctx.support, ctx.rows)
        for number, (first, allowed) in enumerate(zip(starts, within, strict=False)):
            part = slice(first, first + ctx.rows)
            if kept:
                probabilities, kept[number] = kept[number], None
            else:
                logits = _logits(features[part], *head, ctx.temperature, allowed)
                probabilities = logits.sub_(normalizers[part, None]).exp_()
            of_logits = probabilities.mul_(-totals[part])
            of_logits = of_logits.scatter_add_(1, targets[part], scales[part])
            of_logits = of_logits.to(ctx.dtype)
            if of_features is not None:
                of_features[part] = linear(of_logits, head[0].T)
            if of_weight is not None:
                _add_product(of_weight, of_logits.T, features[part].to(ctx.dtype))
            if of_bias is not None:
                of_bias += of_logits.sum(dim=0)
        return (
            of_features,
            None if of_weight is None else of_weight.to(weight.dtype),
            None if of_bias is None else of_bias.to(bias.dtype),
            *(None,) * 6,
        )


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _cast(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    return weight.to(dtype), None if bias is None else bias.to(dtype)


def _logits(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    temperature: float,
    support: Support | None,
) -> Tensor:
    """Logits over the temperature, -inf outside the support."""
    logits = _widened(linear(features.to(weight.dtype), weight, bias))
    logits = logits if temperature == 1 else logits.div_(temperature)
    if support is None:
        return logits
    return logits.masked_fill_(support.excluded(logits.shape[1]), -torch.inf)


def _split(support: Support | None, rows: int) -> Iterable[Support | None]:
    """The supports of `rows` tokens at a time, without end if there are none."""
    return repeat(None) if support is None else support.split(rows)


def _widened(values: Tensor) -> Tensor:
    return values.to(_wide(values.dtype))


def _normalize(
    logits: Float[Tensor, "N V"], targets: Int[Tensor, "N C"], *, in_place: bool
) -> tuple[Float[Tensor, "N C"], Float[Tensor, " N"], Float[Tensor, " N"]]:
    """Log-probabilities of the targets, entropy and log normalizer.

    Args:
        in_place: Whether to overwrite the logits with the probabilities.
    """
    rows = max(1, _CACHE // (logits.shape[1] * logits.itemsize))
    parts = []
    for some, their_targets in zip(logits.split(rows), targets.split(rows), strict=True):
        highest = some.amax(dim=-1, keepdim=True)
        relative = (some - highest).clamp_(min=_LEAST)
        weights = relative.exp()
        total = weights.sum(dim=-1)
        mean = torch.linalg.vecdot(weights, relative) / total
        normalizer = highest.squeeze(-1) + total.log()
        logprobs = some.gather(-1, their_targets) - normalizer[:, None]
        parts.append((logprobs, total.log() - mean, normalizer))
        if in_place:
            torch.div(weights, total[:, None], out=some)
    logprobs, entropy, normalizers = (torch.cat(values) for values in zip(*parts, strict=True))
    return logprobs, entropy, normalizers
