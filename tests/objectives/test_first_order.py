"""The argument of arXiv:2512.01374: token weights are right to first order.

A tabular policy over V = 3 tokens writes T = 4 of them: 3**4 = 81 sequences, enumerated. The
engine's logits differ from the trainer's by eps times a fixed noise.
"""

import itertools
import math

import pytest
import torch
from torch import Tensor

from steadyrl.objectives import MiniRL, TokenTerms, aggregate

VOCABULARY, LENGTH = 3, 4
SEQUENCES = torch.tensor(list(itertools.product(range(VOCABULARY), repeat=LENGTH)))


def contexts() -> Tensor:
    """For each sequence and position, the row of the logit table: one for every prefix."""
    rows = [
        [
            sum(VOCABULARY**s for s in range(t))
            + sum(token * VOCABULARY**s for s, token in enumerate(sequence[:t]))
            for t in range(LENGTH)
        ]
        for sequence in SEQUENCES.tolist()
    ]
    return torch.tensor(rows)


def token_logprobs(logits: Tensor) -> Tensor:
    return logits.log_softmax(dim=-1)[contexts(), SEQUENCES]


def relative_gradient_error(eps: float) -> float:
    generator = torch.Generator().manual_seed(1)
    table = (sum(VOCABULARY**t for t in range(LENGTH)), VOCABULARY)
    logits = torch.randn(table, generator=generator, requires_grad=True)
    noise = torch.randn(table, generator=generator)
    rewards = torch.randn(len(SEQUENCES), generator=generator)

    logprobs = token_logprobs(logits)
    rollout_logprobs = token_logprobs(logits + eps * noise).detach()
    expected_reward = (logprobs.sum(dim=1).exp() * rewards).sum()
    (exact,) = torch.autograd.grad(expected_reward, logits, retain_graph=True)

    terms = TokenTerms(
        logprobs=logprobs,
        old_logprobs=logprobs.detach(),
        rollout_logprobs=rollout_logprobs,
        advantages=rewards.unsqueeze(1).expand_as(logprobs),
        loss_mask=torch.ones_like(logprobs, dtype=torch.bool),
    )
    objective = MiniRL(clip_low=math.inf, clip_high=math.inf, weight_cap=math.inf)(terms)
    sequence_probabilities = rollout_logprobs.sum(dim=1, keepdim=True).exp()
    loss = aggregate(objective, sequence_probabilities.expand_as(objective))
    (negated,) = torch.autograd.grad(loss, logits)
    return ((negated + exact).norm() / exact.norm()).item()


def test_token_gradient_is_exact_when_engine_and_trainer_agree() -> None:
    assert relative_gradient_error(0.0) < 1e-14


@pytest.mark.parametrize("eps", [0.0125, 0.025, 0.05])
def test_error_of_the_token_gradient_is_linear_in_the_discrepancy(eps: float) -> None:
    error = relative_gradient_error(eps)
    assert 0.1 * eps < error < 3 * eps
    assert relative_gradient_error(2 * eps) / error == pytest.approx(2, abs=0.15)
