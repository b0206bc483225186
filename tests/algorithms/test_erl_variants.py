"""Experiential RL without reflection, and every way to internalise or not."""

import pytest
import torch
from tests.algorithms.experiential import (
    algorithm,
    batches,
    collected,
    student,
    texts,
)
from tests.algorithms.terms import far_apart
from tests.driving import collect
from tests.rollout.fakes import Quiz, QuizEpisode

from steadyrl.algorithms.erl_internalization import RewardWeightedInternalization
from steadyrl.algorithms.memory import NoMemory
from steadyrl.algorithms.reflection import NoReflection
from steadyrl.algorithms.reflection_prompts import ReflectionStyle
from steadyrl.environments.protocol import Outcome, Task
from steadyrl.objectives import TokenTerms


def test_without_reflection_the_second_attempt_reads_the_raw_record() -> None:
    reflection = NoReflection(style=ReflectionStyle.COMPACT)
    second = {f"{w}\nyou wrote {w}\n0": "right" for w in ("w1", "w2", "w3")}
    experience = collected(student(second=second), reflection=reflection, memory=NoMemory())
    first, guided, internalized = batches(experience)
    assert texts(guided)[0] == "<|system|>w1\nyou wrote w1\n0<|user|>q0<|assistant|>right<|end|>"
    assert [len(b) for b in (first, guided, internalized)] == [6, 3, 3]
    assert experience.metrics["reflection_fraction"] == 0.5
    assert {group.part for group in experience.groups} == {"first_attempt", "second_attempt"}


def test_internalization_can_be_left_out() -> None:
    experience = collected(internalization={"name": "none"})
    assert [len(batch) for batch in batches(experience)] == [6, 3, 3]
    assert experience.metrics["internalized_fraction"] == 0


class Graded(Quiz):
    """`right` earns 1, `half` earns a half."""

    def start(self, task: Task) -> QuizEpisode:
        return GradedEpisode(1)


class GradedEpisode(QuizEpisode):
    def respond(self, text: str) -> Outcome:
        reward = {"right": 1.0, "half": 0.5}.get(text, 0.0)
        return Outcome(reward=reward, terminated=True, feedback=f"you wrote {text}")


@pytest.mark.parametrize(
    ("kind", "weights"),
    [("nll", [1.0, 1.0]), ("reward_weighted", [0.5, 1.0]), ("importance_weighted", [1.0, 1.0])],
)
def test_successes_in_part_are_internalised_by_indicator_or_by_reward(
    kind: str, weights: list[float]
) -> None:
    second = {"do A": "half", "do B": "wrong", "do C": "right"}
    subject = algorithm(environment=Graded(), internalization={"name": kind})
    experience = collect(subject, 0, student(second=second))
    term = subject.loss_terms(batches(experience))[-1]
    rows = term.batch
    # At the probabilities that the tokens were drawn with, no importance weight differs from 1.
    terms = TokenTerms(
        logprobs=rows.rollout_logprobs.clone().requires_grad_(),
        old_logprobs=rows.rollout_logprobs,
        rollout_logprobs=rows.rollout_logprobs,
        advantages=rows.advantages,
        loss_mask=rows.loss_mask,
    )
    (gradient,) = torch.autograd.grad(term.objective(terms).sum(), terms.logprobs)
    assert torch.equal(gradient, torch.tensor(weights)[:, None] * rows.loss_mask)
    # A half is no success: only "do C" is remembered.
    assert [write.text for write in experience.rollout.memory_writes] == ["do C"]


def test_reward_weighted_internalization_maximises_reward_times_log_likelihood() -> None:
    subject = algorithm(internalization=RewardWeightedInternalization())
    (mini_batch,) = collect(subject, 0, student()).mini_batches
    term = subject.loss_terms(mini_batch)[-1]
    probe = far_apart()
    expected = torch.where(probe.loss_mask, probe.advantages * probe.logprobs, 0)
    torch.testing.assert_close(term.objective(probe), expected)
