"""Internalization: its gradient is the one that its equation has."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.algorithms.experiential import algorithm, student
from tests.closeness import assert_close
from tests.driving import collect
from tests.function_objective import FunctionObjective
from tests.learners.small import tiny_learner, tiny_policy
from torch import Tensor

from steadyrl.algorithms.erl_internalization import (
    ImportanceWeightedInternalization,
    OnPolicyDistillation,
)
from steadyrl.learners.local import LocalLearner
from steadyrl.learners.loss_term import LossTerm
from steadyrl.objectives import TokenTerms
from steadyrl.records.token_batch import TokenBatch


def internalization_term(kind: str, **options: Any) -> LossTerm:
    """The term that the worked example ends with."""
    subject = algorithm(internalization={"name": kind}, **options)
    (mini_batch,) = collect(subject, 0, student()).mini_batches
    return subject.loss_terms(mini_batch)[-1]


def gradient_of(learner: LocalLearner, term: LossTerm) -> dict[str, Tensor]:
    learner.update([term], step=0, steps=1)
    return {name: g.clone() for name, g in learner.optimizer.gradients().items()}


def logprobs_of(policy: Any, batch: TokenBatch) -> Tensor:
    logits = policy.model(input_ids=batch.tokens).logits
    return logits[:, :-1].log_softmax(-1).gather(-1, batch.tokens[:, 1:, None]).squeeze(-1)


def written_out(batch: TokenBatch, weights: Tensor, scale: float) -> dict[str, Tensor]:
    """The gradient of minus the mean over rows of the weighted sum of log-likelihoods."""
    policy = tiny_policy()
    logprobs = logprobs_of(policy, batch)
    loss = -(weights * logprobs)[batch.loss_mask[:, 1:]].sum() / len(batch)
    (scale * loss).backward()
    return {name: w.grad for name, w in policy.model.named_parameters()}


def test_gradient_is_that_of_the_negative_log_likelihood_under_the_bare_task() -> None:
    term = internalization_term("nll")
    expected = written_out(term.batch, torch.ones(()), scale=2 / 14)
    assert_close(gradient_of(tiny_learner(), term), expected)
    assert max(float(g.abs().max()) for g in expected.values()) > 1e-3


@pytest.mark.parametrize("cap", [2.0, math.inf])
def test_importance_weights_are_of_the_bare_task_over_the_guided_one(cap: float) -> None:
    term = internalization_term("importance_weighted", internalization_coefficient=7.0)
    batch = term.batch
    assert batch.rollout_logprobs is not None
    # The scripted engine claims log-probabilities below -200. Claim others, close to the policy's.
    now = logprobs_of(tiny_policy(), batch).detach()
    noise = torch.linspace(-1, 2, now.numel()).reshape(now.shape)
    rollout = torch.nn.functional.pad(now - noise, (1, 0))
    changed = replace(batch, rollout_logprobs=rollout)
    weights = noise.exp().clamp(max=cap)
    expected = written_out(changed, weights, scale=7 * 2 / 14)
    term = replace(term, batch=changed, objective=ImportanceWeightedInternalization(cap=cap))
    assert_close(gradient_of(tiny_learner(), term), expected)


# On-policy distillation.


def distributions() -> tuple[Tensor, Tensor, Tensor]:
    """Student logits, and the probabilities of teacher and engine, over seven tokens."""
    generator = torch.Generator().manual_seed(0)
    student_logits = torch.randn(7, generator=generator, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(7, generator=generator, dtype=torch.float64).softmax(-1)
    engine = torch.randn(7, generator=generator, dtype=torch.float64).softmax(-1)
    return student_logits, teacher, engine


def terms_for_every_token(student_logits: Tensor, teacher: Tensor, engine: Tensor) -> TokenTerms:
    """One row for each token that could be drawn."""
    logprobs = student_logits.log_softmax(-1)[:, None]
    return TokenTerms(
        logprobs=logprobs,
        old_logprobs=logprobs.detach(),
        rollout_logprobs=engine.log()[:, None],
        advantages=torch.ones_like(logprobs),
        loss_mask=torch.ones_like(logprobs).bool(),
        teacher_logprobs=teacher.log()[:, None],
    )


def test_expected_gradient_of_distillation_is_that_of_the_divergence_over_all_tokens() -> None:
    logits, teacher, engine = distributions()
    objective = OnPolicyDistillation(cap=math.inf)(terms_for_every_token(logits, teacher, engine))
    (engine[:, None] * objective).sum().backward()
    sampled = logits.grad
    divergence = (teacher * (teacher.log() - logits.log_softmax(-1))).sum()
    (exact,) = torch.autograd.grad(-divergence, logits)
    torch.testing.assert_close(sampled, exact, rtol=1e-12, atol=1e-14)


def test_distillation_vanishes_where_student_and_teacher_agree() -> None:
    logits, _, engine = distributions()
    terms = terms_for_every_token(logits, logits.detach().softmax(-1), engine)
    assert OnPolicyDistillation()(terms).abs().max() < 1e-12


def test_distillation_is_bounded_by_its_cap() -> None:
    logits, teacher, engine = distributions()
    tiny = engine.clone()
    tiny[0] = 1e-12
    terms = terms_for_every_token(logits, teacher, tiny)
    coefficients = OnPolicyDistillation(cap=3.0)(terms) / terms.logprobs
    assert coefficients.abs().max() <= 3.0


def test_teacher_is_the_policy_under_the_lesson_and_reads_the_same_tokens() -> None:
    term = internalization_term("on_policy_distillation")
    batch = term.batch
    assert batch.teacher is not None
    seen: list[TokenTerms] = []

    def noting(terms: TokenTerms) -> Tensor:
        seen.append(terms)
        return term.objective(terms)

    learner = tiny_learner()
    noted = replace(term, objective=FunctionObjective(function=noting), scale=1.0)
    gradient = gradient_of(learner, noted)
    (terms,) = seen
    assert terms.teacher_logprobs is not None
    # Rows are learned longest first. Both have one loss token more than their answer "w1", "w3".
    expected = logprobs_of(tiny_policy(), batch.teacher)[batch.teacher.loss_mask[:, 1:]]
    found = terms.teacher_logprobs[terms.loss_mask]
    assert_close(found.sort().values, expected.sort().values)
    # The student's own gradient, written out with the coefficients held fixed.
    policy = tiny_policy()
    own = torch.nn.functional.pad(logprobs_of(policy, batch), (1, 0))
    teacher = torch.zeros_like(own).masked_scatter(batch.loss_mask, expected)
    assert batch.rollout_logprobs is not None
    weights = [(lp - batch.rollout_logprobs).exp().clamp(max=5.0) for lp in (teacher, own)]
    coefficients = (weights[0] - weights[1]).detach()
    loss = -(coefficients * own)[batch.loss_mask].sum() / len(batch)
    loss.backward()
    written = {name: w.grad for name, w in policy.model.named_parameters()}
    assert_close(gradient, written)
