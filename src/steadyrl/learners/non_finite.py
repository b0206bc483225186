"""Errors for losses, gradients and weights that are not finite."""

import torch

from steadyrl.base.errors import NonFiniteError
from steadyrl.objectives import TokenTerms


def non_finite(what: str, step: int, detail: str = "") -> NonFiniteError:
    """The error for `what`, before an optimizer step."""
    return NonFiniteError(
        f"At step {step}, {what} is not finite.{detail} The optimizer step was not taken. Set a "
        "lower learning_rate or gradient_clip, or dtype float32, in the run's config.yaml and "
        "resume it."
    )


def non_finite_weight(name: str, policy_version: int) -> NonFiniteError:
    """The error for a weight that would be saved."""
    return NonFiniteError(
        f"After update {policy_version}, {name} is not finite. No checkpoint was written. Set a "
        "lower learning_rate or gradient_clip, or dtype float32, in the run's config.yaml and "
        "resume it."
    )


def non_finite_count(terms: TokenTerms) -> str:
    """A sentence about the log-probabilities of `terms`."""
    bad = terms.loss_mask & ~torch.isfinite(terms.logprobs)
    return f" {int(bad.sum())} of {int(terms.loss_mask.sum())} log-probabilities are not finite."
