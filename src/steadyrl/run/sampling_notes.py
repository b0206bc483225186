"""Notes on truncated sampling distributions that a run trains on."""

from collections.abc import Iterator

from steadyrl.engines.protocol import Sampling
from steadyrl.run.config import RunConfig


def sampling_notes(config: RunConfig) -> list[str]:
    """A note for each sampling that is trained on and limited to the most probable tokens.

    Tokens are sampled from mu(y) / m on the kept set, where m is the probability of that set under
    the engine's full softmax mu, and the engine reports log mu(y) - log m. The trainer scores the
    full softmax, so its ratio to the engine is m at equal weights, not 1.
    """
    return [
        f"{place} is cut by {cuts}: the engine's log-probabilities are those of the tokens that "
        "are kept, the trainer's those of the full softmax. Without any other mismatch the ratio "
        "of trainer to engine is the probability of what is kept, below 1, which counts as "
        "mismatch. Set top_p to 1 and leave top_k out to compare both on one distribution."
        for place, cuts in cut_samplings(config)
    ]


def cut_samplings(config: RunConfig) -> list[tuple[str, str]]:
    """Settings of truncated samplings that are trained on, and what truncates them."""
    return [
        (place, " and ".join(cuts))
        for place, sampling in _learned_from(config)
        if (cuts := _cuts(sampling))
    ]


def _learned_from(config: RunConfig) -> Iterator[tuple[str, Sampling]]:
    if config.steps:
        yield "sampling", config.sampling
        for place, sampling in config.algorithm.learned_samplings().items():
            yield f"algorithm.{place}", sampling


def _cuts(sampling: Sampling) -> list[str]:
    cuts = [f"top_p {sampling.top_p:g}"] if sampling.top_p < 1 else []
    return cuts + ([f"top_k {sampling.top_k}"] if sampling.top_k is not None else [])
