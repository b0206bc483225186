"""Sampling of one token per row from logits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from steadyrl.base.errors import NonFiniteError
from steadyrl.engines.protocol import Request, Sampling
from steadyrl.records.candidates import Candidates

BLOCK = 128
"""Number of vocabulary tokens whose probabilities are summed together."""


def uniforms(request: Request) -> Float[Tensor, "G R"]:
    """Uniform random numbers in [0, 1) for every token of `request`, in float64."""
    generator = np.random.default_rng(request.seed)
    budget = request.sampling.max_new_tokens
    return torch.from_numpy(generator.random((request.num_completions, budget)))


@dataclass(frozen=True, slots=True)
class Sampled:
    """One sampled token per row."""

    tokens: Int[Tensor, " B"]

    logprobs: Float[Tensor, " B"]
    """Log-probabilities in the distributions that the tokens are sampled from."""

    support: Sequence[Int[Tensor, " _"] | None] | None = None
    """Ids that truncated sampling keeps in each row, on the CPU; None: all."""

    candidates: Candidates | None = None
    """The most probable tokens of each row; None: not taken."""


def has_candidates(sampling: Sampling) -> bool:
    """Whether candidates are taken: not where other tokens have no chance."""
    return sampling.temperature > 0 and not sampling.is_truncated


def sample(
    logits: Float[Tensor, "B V"],
    uniform: Float[Tensor, " B"],
    sampling: Sampling,
    candidates: int = 0,
) -> Sampled:
    """Samples one token per row.

    The token is where the cumulative distribution exceeds `uniform`, so equal random numbers and
    equal logits give equal tokens in any batch.

    Args:
        candidates: Number of most probable tokens to take, where `has_candidates` says so.

    Raises:
        NonFiniteError: the largest logit of a row is not finite.
    """
    scores = logits.float()
    highest = scores.amax(dim=-1, keepdim=True)
    if not bool(highest.isfinite().all()):
        raise NonFiniteError(
            f"The logits of {int((~highest.isfinite()).sum())} of {len(logits)} rows are not "
            "finite, so no token can be sampled. Training has diverged: lower learning_rate or "
            "gradient_clip, or use dtype float32, and resume from an earlier checkpoint."
        )
    if sampling.temperature == 0:
        tokens = logits.argmax(dim=-1)
        return Sampled(tokens, logits.new_zeros(len(logits), dtype=torch.float32))
    relative = (scores - highest).div_(sampling.temperature)
    if sampling.top_k is not None and sampling.top_k < scores.shape[-1]:
        relative = _most_probable(relative, sampling.top_k)
    if sampling.top_p < 1:
        relative = _nucleus(relative, sampling.top_p)
    support = _support(relative) if sampling.is_truncated else None
    likely = None
    if candidates and has_candidates(sampling):
        likely = relative.topk(min(candidates, relative.shape[-1]), dim=-1)
    tokens, total = _invert_cumulative(relative.exp_(), uniform[:, None])
    normalizer = total.log().float()
    chosen = (scores.gather(-1, tokens) - highest) / sampling.temperature
    return Sampled(
        tokens.squeeze(-1),
        (chosen - normalizer).squeeze(-1),
        support,
        likely and Candidates(ids=likely.indices.int(), logprobs=likely.values - normalizer),
    )


def sample_each(
    logits: Float[Tensor, "B V"],
    uniform: Float[Tensor, " B"],
    samplings: Sequence[tuple[Sampling, list[int] | None]],
    candidates: int = 0,
) -> Sampled:
    """`sample` for rows with different sampling parameters.

    Args:
        samplings: Sampling parameters and their rows; None: all rows.
        candidates: As in `sample`; rows without any have zeros.
    """
    if len(samplings) == 1:
        return sample(logits, uniform, samplings[0][0], candidates)
    tokens = torch.empty(len(logits), dtype=torch.long, device=logits.device)
    logprobs = torch.empty(len(logits), device=logits.device)
    support: list[Tensor | None] = [None] * len(logits)
    shape = (len(logits), min(candidates, logits.shape[1]))
    likely = Candidates(ids=tokens.new_zeros(shape).int(), logprobs=logprobs.new_zeros(shape))
    for sampling, rows in samplings:
        assert rows is not None
        index = torch.tensor(rows, device=logits.device)
        some = sample(logits[index], uniform[index], sampling, candidates)
        tokens[index], logprobs[index] = some.tokens, some.logprobs
        if some.candidates is not None:
            likely.ids[index] = some.candidates.ids
            likely.logprobs[index] = some.candidates.logprobs
        for row, ids in zip(rows, some.support or (), strict=False):
            support[row] = ids
    known = support if any(ids is not None for ids in support) else None
    return Sampled(tokens, logprobs, known, likely if candidates else None)


def _support(relative: Float[Tensor, "B V"]) -> list[Tensor | None]:
    """Ids of the finite scores of each row."""
    kept = relative > -torch.inf
    ids = kept.nonzero()[:, 1].to(device="cpu", dtype=torch.int32)
    return list(ids.split(kept.sum(dim=-1).tolist()))


def _invert_cumulative(
    weights: Float[Tensor, "B V"], uniform: Float[Tensor, "B 1"]
) -> tuple[Int[Tensor, "B 1"], Float[Tensor, "B 1"]]:
    """Index where the running sum of `weights` exceeds `uniform` times the total, and the total.

    A large vocabulary is first summed by blocks and then within the selected block, so it is read
    once.
    """
    if weights.shape[-1] <= BLOCK:
        running = weights.double().cumsum(dim=-1)
        total = running[:, -1:]
        return _first_above(running, uniform * total), total
    blocks = nn.functional.pad(weights, (0, -weights.shape[-1] % BLOCK)).unflatten(-1, (-1, BLOCK))
    running = blocks.sum(dim=-1).double().cumsum(dim=-1)
    total = running[:, -1:]
    block = _first_above(running, uniform * total)
    before = nn.functional.pad(running, (1, 0)).gather(-1, block)
    share = (uniform * total - before) / (running.gather(-1, block) - before)
    within = blocks.gather(1, block[:, :, None].expand(-1, -1, BLOCK)).squeeze(1)
    within = within.double().cumsum(dim=-1)
    return block * BLOCK + _first_above(within, share * within[:, -1:]), total


def _first_above(running: Float[Tensor, "B N"], level: Float[Tensor, "B 1"]) -> Int[Tensor, "B 1"]:
    """First index where the running sum exceeds `level`, clamped to below its end."""
    below_end = running[:, -1:].nextafter(torch.zeros_like(level))
    return torch.searchsorted(running, level.minimum(below_end), right=True)


def _most_probable(scores: Float[Tensor, "B V"], top_k: int) -> Float[Tensor, "B V"]:
    """The `top_k` highest scores, the first of equal ones; -inf elsewhere."""
    order = scores.argsort(dim=-1, descending=True, stable=True)[:, :top_k]
    return torch.full_like(scores, -torch.inf).scatter(-1, order, scores.gather(-1, order))


def _nucleus(scores: Float[Tensor, "B V"], top_p: float) -> Float[Tensor, "B V"]:
    """Scores of the smallest set with cumulative probability `top_p`; -inf elsewhere."""
    ordered, order = scores.softmax(dim=-1).sort(dim=-1, descending=True)
    before = ordered.cumsum(dim=-1) - ordered
    within = before < top_p
    within[:, 0] = True  # float32 has no number for the smallest top_p
    kept = torch.zeros_like(within).scatter(-1, order, within)
    return scores.masked_fill(~kept, -torch.inf)
