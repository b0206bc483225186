"""Engines of vLLM for tests, and what their completions are compared with."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from steadyrl.engines.protocol import Request, Sampling
from steadyrl.engines.vllm.build import vllm_engine
from steadyrl.engines.vllm.engine import VllmEngine
from steadyrl.engines.vllm.settings import VllmSettings
from steadyrl.policies.policy import Policy
from steadyrl.policies.token_scores import TokenScores
from steadyrl.records.completion import Completion
from steadyrl.records.routing import Routing

FLOAT32 = 1e-4
"""Largest difference of a float32 log-probability: sums in another order, over four layers."""


@contextmanager
def served(policy: Policy, *, candidates: int = 0, **settings: Any) -> Iterator[VllmEngine]:
    """vLLM in this process, with the weights of `policy`."""
    values = {"numerics": "float32", "cache_memory": 64, **settings}
    engine = vllm_engine(VllmSettings(**values), policy, seed=3, candidates=candidates)
    assert isinstance(engine, VllmEngine)
    try:
        yield engine
    finally:
        engine.close()


def requests(
    policy: Policy, lengths: Sequence[int] = (5, 40, 70), *, answers: int = 3, **sampling: Any
) -> list[Request]:
    """Requests with random prompts of these lengths: the second begins as the third does."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = policy.model.config.vocab_size
    prompt = torch.randint(vocabulary, (max(lengths),), generator=generator)
    values = {"max_new_tokens": 12, **sampling}
    return [
        Request(
            prompt_ids=prompt[:length],
            num_completions=answers,
            seed=length,
            sampling=Sampling(**values),
        )
        for length in lengths
    ]


def sequences(completions: Sequence[Completion]) -> list[Tensor]:
    """All tokens of each completion, its prompt before it."""
    return [torch.cat([each.prompt_ids, each.token_ids]) for each in completions]


def trainer_scores(
    policy: Policy, tokens: Tensor, *, temperature: float = 1.0, replay: Routing | None = None
) -> TokenScores:
    """What the trainer says of every token of one sequence."""
    everywhere = torch.ones(1, len(tokens), dtype=torch.bool)
    if replay is not None:  # of the last token, which nothing is predicted after, there is none
        known = torch.nn.functional.pad(replay.known, (0, 1))
        replay = Routing(experts=replay.experts, known=known, fed_tokens=replay.fed_tokens)
    with torch.no_grad():
        return policy.score(
            tokens[None],
            everywhere,
            everywhere,
            temperature=temperature,
            replay=replay,
            record_routing=policy.hook is not None,
        )


def perturb(policy: Policy, scale: float, seed: int = 1) -> None:
    """Moves all weights by Gaussian noise."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in policy.model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * scale)
