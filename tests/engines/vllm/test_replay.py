"""What replaying vLLM's routes is worth in bfloat16: the numbers in `docs/engines.md`.

pytest -m vllm tests/engines/vllm/test_replay.py -s
"""

from collections.abc import Callable
from itertools import chain

import pytest
import torch
from torch import Tensor

from steadyrl.objectives.kl import k3
from steadyrl.policies.policy import Policy
from steadyrl.policies.token_scores import TokenScores
from steadyrl.records.completion import Completion
from tests.driving import generate
from tests.engines.vllm.models import olmoe, qwen3_moe
from tests.engines.vllm.serving import requests, sequences, served, trainer_scores

pytest.importorskip("vllm")
pytestmark = pytest.mark.vllm


def mismatch(scored: list[TokenScores], answers: list[Completion]) -> float:
    """k3 per token between engine and trainer, in nats."""
    values = [
        k3(answer.logprobs, scores.logprobs[0, len(answer.prompt_ids) :].float())
        for scores, answer in zip(scored, answers, strict=True)
    ]
    return float(torch.cat(values).mean())


def disagreement(scored: list[TokenScores], answers: list[Completion]) -> float:
    """Share of expert choices in which trainer and engine differ."""
    differing: list[Tensor] = []
    for scores, answer in zip(scored, answers, strict=True):
        assert scores.routing is not None
        assert answer.routing is not None
        fed = torch.arange(scores.logprobs.shape[1])[None] < scores.logprobs.shape[1] - 1
        used = scores.routing.at(fed).sort(dim=-1).values
        recorded = answer.routing.at(answer.routing.known).sort(dim=-1).values
        differing.append((used != recorded).any(dim=-1).flatten())
    return float(torch.cat(differing).float().mean())


@pytest.mark.parametrize("make", [qwen3_moe, olmoe])
def test_replay_removes_most_of_the_mismatch_in_bfloat16(make: Callable[..., Policy]) -> None:
    policy = make(torch.bfloat16)
    with served(policy, numerics="bfloat16", rounding="nearest") as engine:
        asked = requests(policy, [20, 60, 100, 140], answers=16, max_new_tokens=64)
        answers = list(chain(*generate(engine, asked)))
    rows = sequences(answers)
    live = [trainer_scores(policy, tokens) for tokens in rows]
    replayed = [
        trainer_scores(policy, tokens, replay=answer.routing)
        for tokens, answer in zip(rows, answers, strict=True)
    ]
    without, with_replay = mismatch(live, answers), mismatch(replayed, answers)
    print(
        f"\n{type(policy.model).__name__}: {sum(len(a.token_ids) for a in answers)} tokens, k3 "
        f"{without:.2e} without replay, {with_replay:.2e} with R3, ratio "
        f"{without / with_replay:.1f}; disagreement {disagreement(live, answers):.4f} without"
    )
    assert disagreement(replayed, answers) == 0
    assert disagreement(live, answers) > 0
    assert without > 2 * with_replay
