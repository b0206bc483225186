"""What holds a stage to its beginning, and what would not."""

import re
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from tests.algorithms.experiential import algorithm, student
from tests.algorithms.terms import far_apart
from tests.driving import collect
from tests.rollout.fakes import TOKENIZER, Quiz, ScriptedEngine

from steadyrl.algorithms.policy_gradient import PolicyGradient, PolicyGradientSettings
from steadyrl.engines.protocol import Sampling
from steadyrl.objectives import (
    GRPO,
    NLL,
    ReferenceEstimator,
    ReferenceKL,
    reference_divergence,
)

HELD = ReferenceKL(coefficient=0.125)
TERMS = replace(far_apart(), ref_logprobs=far_apart().rollout_logprobs)
PENALTY = 0.125 * reference_divergence(TERMS)
"""Of k3, the default."""


def test_by_default_nothing_is_held() -> None:
    assert not ReferenceKL().is_on
    assert ReferenceKL().apply_to(NLL()) == NLL()
    assert ReferenceKL().estimator is ReferenceEstimator.K3
    assert PolicyGradientSettings().reference_kl == ReferenceKL()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"estimator": "k1"}, "'k1', whose gradient .* expectation is 0, .* Use 'k3' or 'k2'"),
        ({"estimator": "k2"}, "is 'k2', but the coefficient is 0, .* Set a coefficient above 0"),
        ({"estimator": "k4"}, "'k2' or 'k3'"),
        ({"coefficient": -0.1}, "greater than or equal to 0"),
        ({"coefficient": float("inf")}, "finite number"),
    ],
)
def test_what_would_hold_nothing_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        ReferenceKL(**values)
    assert re.search(message, " ".join(str(refusal.value).split()))


def test_policy_gradient_is_held_on_every_row_whatever_its_advantage() -> None:
    settings = PolicyGradientSettings(prompts=1, group_size=2, reference_kl=HELD)
    subject = PolicyGradient(
        settings,
        environment=Quiz(),
        tokenizer=TOKENIZER,
        sampling=Sampling(max_new_tokens=16),
        seed=0,
    )
    engine = ScriptedEngine(lambda *_: "right")
    (term,) = subject.loss_terms(collect(subject, 0, engine).mini_batches[0])

    assert term.objective.reads_reference
    assert not term.objective.proportional_to_advantage
    free = PolicyGradient(
        settings.model_copy(update={"reference_kl": ReferenceKL()}),
        environment=Quiz(),
        tokenizer=TOKENIZER,
        sampling=Sampling(max_new_tokens=16),
        seed=0,
    )
    (other,) = free.loss_terms(collect(subject, 0, engine).mini_batches[0])
    assert (other.objective.reads_reference, other.objective.proportional_to_advantage) == (
        False,
        True,
    )
    torch.testing.assert_close(term.objective(TERMS), other.objective(TERMS) - PENALTY)


def test_every_row_of_an_experience_is_held_with_the_same_weight() -> None:
    subject = algorithm(reference_kl=HELD, internalization_coefficient=0.5)
    (mini_batch,) = collect(subject, 0, student()).mini_batches
    *reinforced, internalized = subject.loss_terms(mini_batch)

    for term in reinforced:
        expected = GRPO(clip_low=0.2, clip_high=0.28)(TERMS) - PENALTY
        torch.testing.assert_close(term.objective(TERMS), expected)
    # Its scale is half of its share of the rows: the penalty is doubled to weigh as elsewhere.
    assert internalized.scale == pytest.approx(0.5 * 2 / 14)
    torch.testing.assert_close(internalized.objective(TERMS), NLL()(TERMS) - PENALTY / 0.5)
    for term in (*reinforced, internalized):
        assert term.objective.reads_reference
        assert not term.objective.proportional_to_advantage


def test_rows_that_imitate_a_teacher_are_held_where_they_were_sampled_alone() -> None:
    subject = algorithm(reference_kl=HELD, internalization={"name": "on_policy_distillation"})
    (mini_batch,) = collect(subject, 0, student()).mini_batches
    *reinforced, distilled = subject.loss_terms(mini_batch)

    assert distilled.batch.teacher is not None
    assert [term.objective.reads_reference for term in (*reinforced, distilled)] == [True] * 3 + [
        False
    ]
