"""Drawing one token per row from logits."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from steadyrl.engines.protocol import Request, Sampling


def uniforms(request: Request, sampling: Sampling) -> Float[Tensor, "G R"]:
    """The random numbers in [0, 1) behind every token that `request` may draw, in float64."""
    generator = np.random.default_rng(request.seed)
    return torch.from_numpy(generator.random((request.num_completions, sampling.max_new_tokens)))


def sample(
    logits: Float[Tensor, "B V"], uniform: Float[Tensor, " B"], sampling: Sampling
) -> tuple[Int[Tensor, " B"], Float[Tensor, " B"]]:
    """One token per row and its log-probability under the distribution it was drawn from.

    The token is where the cumulative distribution passes `uniform`, so equal random numbers and
    equal logits give equal tokens in any batch.
    """
    if sampling.temperature == 0:
        return logits.argmax(dim=-1), logits.new_zeros(len(logits), dtype=torch.float32)
    logprobs = (logits.float() / sampling.temperature).log_softmax(dim=-1)
    if sampling.top_p < 1:
        logprobs = _nucleus(logprobs, sampling.top_p)
    cumulative = logprobs.double().exp().cumsum(dim=-1)
    threshold = uniform[:, None] * cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, threshold, right=True).clamp(max=logits.shape[-1] - 1)
    return tokens.squeeze(-1), logprobs.gather(-1, tokens).squeeze(-1)


def _nucleus(logprobs: Float[Tensor, "B V"], top_p: float) -> Float[Tensor, "B V"]:
    """`logprobs` renormalised over the smallest set that holds `top_p`; -inf outside it."""
    ordered, order = logprobs.sort(dim=-1, descending=True)
    before = ordered.exp().cumsum(dim=-1) - ordered.exp()
    kept = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before < top_p)
    return logprobs.masked_fill(~kept, -torch.inf).log_softmax(dim=-1)
