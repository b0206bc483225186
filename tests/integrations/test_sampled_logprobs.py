"""Log-probabilities are those of the tokens that `generate` sampled."""

import pytest
import torch

from steadyrl.integrations.sampled_logprobs import SampledLogprobs
from steadyrl.policies.policy import Policy
from tests.closeness import assert_close

PROMPTS = torch.tensor([[5, 6, 7], [7, 8, 9]])
TEMPERATURE = 0.7


def sample(policy: Policy) -> tuple[torch.Tensor, SampledLogprobs]:
    torch.manual_seed(0)
    with SampledLogprobs(policy.model, temperature=TEMPERATURE) as sampled:
        tokens = policy.model.generate(
            PROMPTS,
            attention_mask=torch.ones_like(PROMPTS),
            do_sample=True,
            temperature=TEMPERATURE,
            top_k=0,
            max_new_tokens=6,
            min_new_tokens=6,
            pad_token_id=0,
        )
    return tokens, sampled


def test_they_are_the_policys_scores_of_the_text(dense_policy: Policy) -> None:
    tokens, sampled = sample(dense_policy)
    mask = torch.ones_like(tokens, dtype=torch.bool)
    with torch.no_grad():
        scores = dense_policy.score(tokens, mask, mask, temperature=TEMPERATURE)

    rows = [tokens[0, 3:].tolist(), tokens[1, 3:5].tolist()]  # the second ends early
    first, second = sampled.of(rows)
    assert_close(first, scores.logprobs[0, 3:], terms=1024)
    assert_close(second, scores.logprobs[1, 3:5], terms=1024)


def test_swapped_completions_are_noticed(dense_policy: Policy) -> None:
    tokens, sampled = sample(dense_policy)

    with pytest.raises(RuntimeError, match=r"completions \[0, 1\] are not the tokens"):
        sampled.of(tokens[:, 3:].flip(0).tolist())
