"""What is not finite stops an update before its step."""

import pytest
import torch
from torch import Tensor

from steadyrl.base.errors import NonFiniteError
from steadyrl.objectives import TokenTerms
from tests.learners.small import (
    largest_difference,
    made_up_batch,
    step,
    term_on,
    tiny_learner,
    weights_of,
    without_signal,
)


def test_a_loss_that_is_not_finite_stops_before_the_step() -> None:
    learner = tiny_learner()
    before = weights_of(learner)

    def infinite(terms: TokenTerms) -> Tensor:
        return torch.where(terms.loss_mask, torch.inf, 0.0) * terms.logprobs

    with pytest.raises(
        NonFiniteError,
        match=r"At step 7, the loss is not finite\. 0 of \d+ log-probabilities are not finite\. "
        r"The optimizer step was not taken\. Set a lower learning_rate .* and resume it\.",
    ):
        learner.update([term_on(made_up_batch(), infinite)], step=7, steps=9)
    assert largest_difference(weights_of(learner), before) == 0
    assert learner.policy_version == 0


def test_log_probabilities_that_are_not_finite_are_counted_in_the_message() -> None:
    learner = tiny_learner()
    with torch.no_grad():
        learner.policy.model.get_output_embeddings().weight[5] = torch.nan
    batch = made_up_batch((1.0,))
    tokens = int(batch.loss_mask.sum())

    with pytest.raises(NonFiniteError, match=f" {tokens} of {tokens} log-probabilities"):
        step(learner, batch)


def test_log_probabilities_of_skipped_rows_must_be_numbers_too() -> None:
    learner, batch = tiny_learner(), without_signal(made_up_batch((1.0,)))
    with torch.no_grad():
        learner.policy.model.get_output_embeddings().weight[5] = torch.nan
    tokens = int(batch.loss_mask.sum())

    with pytest.raises(
        NonFiniteError, match=rf"a log-probability is not finite\. {tokens} of {tokens} log-prob"
    ):
        step(learner, batch)
    assert learner.policy_version == 0


def test_a_gradient_that_is_not_finite_stops_before_the_step_and_is_named() -> None:
    learner = tiny_learner()
    before = weights_of(learner)

    def cliff(terms: TokenTerms) -> Tensor:
        # sqrt(0) = 0 has an infinite derivative, and inf * 0 is not a number.
        return (0 * terms.logprobs).sqrt()

    with pytest.raises(
        NonFiniteError, match=r"At step 3, the gradient of model\.\S+ is not finite\. The optimizer"
    ):
        learner.update([term_on(made_up_batch(), cliff)], step=3, steps=9)
    assert largest_difference(weights_of(learner), before) == 0
    assert learner.policy_version == 0


def test_a_poisoned_update_leaves_no_trace_in_the_next() -> None:
    batch = made_up_batch()

    def cliff(terms: TokenTerms) -> Tensor:
        return (0 * terms.logprobs).sqrt()

    poisoned, clean = tiny_learner(), tiny_learner()
    with pytest.raises(NonFiniteError):
        poisoned.update([term_on(batch, cliff)], step=0, steps=2)
    gradients = step(poisoned, batch), step(clean, batch)

    assert largest_difference(*gradients) == 0
    assert largest_difference(weights_of(poisoned), weights_of(clean)) == 0
