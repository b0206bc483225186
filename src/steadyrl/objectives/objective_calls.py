"""Calls to an objective that validate its results; errors name the objective's class."""

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from steadyrl.base.errors import UserError, call_user_code, require_type, safe_repr
from steadyrl.objectives.clipping import ClipMasks
from steadyrl.objectives.objective import Objective
from steadyrl.objectives.terms import CandidateTerms, TokenTerms


def token_values(objective: Objective, terms: TokenTerms) -> Float[Tensor, "B T"]:
    """Objective of each token.

    Raises:
        UserError: the objective raises, or does not return a floating-point tensor with a gradient
            and the shape of the terms.
    """
    name, remedy = (
        _name(objective),
        "Return one value for each token, computed from terms.logprobs.",
    )
    values = _result(objective, partial(objective, terms), "__call__")
    require_type(values, Tensor, given_by=name, noun="a tensor", remedy=remedy)
    _require_shape(values, terms, name, remedy)
    if not values.is_floating_point():
        raise UserError(f"{name} returned {values.dtype} instead of floats. {remedy}")
    if torch.is_grad_enabled() and terms.logprobs.requires_grad and not values.requires_grad:
        raise UserError(f"{name} returned values without a gradient. {remedy}")
    return values


def token_masks(objective: Objective, terms: TokenTerms) -> ClipMasks:
    """Tokens that the objective clips, truncates or masks out.

    Raises:
        UserError: `masks` raises, or does not return `ClipMasks` of boolean tensors with the shape
            of the terms.
    """
    name = f"{_name(objective)}.masks"
    remedy = "Return ClipMasks with one bool per token."
    masks = _result(objective, partial(objective.masks, terms), "masks")
    require_type(masks, ClipMasks, given_by=name, noun="ClipMasks", remedy=remedy)
    for tokens in (getattr(masks, field.name) for field in fields(masks)):
        if tokens is not None:
            require_type(tokens, Tensor, given_by=name, noun="a tensor", remedy=remedy)
            _require_shape(tokens, terms, name, remedy)
            if tokens.dtype != torch.bool:
                raise UserError(f"{name} returned {tokens.dtype} instead of bools. {remedy}")
    return masks


def try_objective(objective: Objective) -> None:
    """Calls a user-defined objective on a made-up batch of three rows with three tokens.

    Built-in objectives are not called: tests prove them.

    Raises:
        UserError: `token_values` or `token_masks` refuses what it returns, values or gradients are
            not finite, or a row without advantage contributes although
            `proportional_to_advantage` says that none does.
    """
    if type(objective).__module__.startswith("steadyrl."):
        return
    terms = _made_up_terms(reads_candidates=objective.reads_candidates > 0)
    with torch.enable_grad():
        values = token_values(objective, terms)
        token_masks(objective, terms)
        (gradient,) = torch.autograd.grad(
            values[terms.loss_mask].sum(), terms.logprobs, allow_unused=True
        )
    name = _name(objective)
    if gradient is None:
        raise UserError(
            f"{name} returned values whose gradient does not reach terms.logprobs. Compute them "
            "from terms.logprobs, or from log_ratio, log_weight or weighted_logprobs of the terms."
        )
    if not (values.isfinite().all() and gradient.isfinite().all()):
        raise UserError(
            f"{name} returned values, or has gradients, that are not finite on a small batch: "
            f"{safe_repr(values.tolist())}. Return finite values for every token, also outside "
            "the loss mask."
        )
    idle = (terms.advantages == 0).all(dim=1)
    contributes = values[idle][terms.loss_mask[idle]].any() or gradient[idle].any()
    if objective.proportional_to_advantage and contributes:
        raise UserError(
            f"{name} sets proportional_to_advantage, but a row whose advantages are all 0 "
            "contributes to it. Remove the flag, or multiply by the advantages."
        )


def _made_up_terms(*, reads_candidates: bool) -> TokenTerms:
    """Three answers of two tokens each: a right one, a wrong one, and one without advantage."""
    logprobs = torch.tensor([[0.0, -0.5, -1.5], [0.0, -1.0, -0.2], [0.0, -2.0, -0.7]])
    step = torch.tensor([[0.0, 0.1, -0.05], [0.0, -0.1, 0.02], [0.0, 0.05, 0.1]])
    return TokenTerms(
        logprobs=logprobs.clone().requires_grad_(),
        old_logprobs=logprobs - step,
        rollout_logprobs=logprobs - 1.5 * step,
        advantages=torch.tensor([[0.0, 1.0, 1.0], [0.0, -1.0, -1.0], [0.0, 0.0, 0.0]]),
        loss_mask=torch.tensor([[False, True, True]] * 3),
        response_ids=torch.arange(3),
        ref_logprobs=logprobs - 2.0 * step,
        router_shift=step.abs(),
        candidates=None if not reads_candidates else _made_up_candidates(),
    )


def _made_up_candidates() -> CandidateTerms:
    """Two candidates of each of the six tokens."""
    logprobs = torch.tensor([[-0.3, -1.6]]).expand(6, 2)
    return CandidateTerms(
        logprobs=logprobs.clone().requires_grad_(),
        old_logprobs=logprobs - 0.05,
        rollout_logprobs=logprobs - torch.tensor([0.1, -0.1]),
    )


def _result(objective: Objective, call: Callable[[], Any], method: str) -> Any:
    """Runs the call. Only exceptions of user-defined objectives become a UserError."""
    if type(objective).__module__.startswith("steadyrl."):
        return call()
    return call_user_code(
        call, failure=f"{_name(objective)}.{method} failed", remedy=f"Fix its {method}."
    )


def _name(objective: Objective) -> str:
    return f"{type(objective).__module__}:{type(objective).__qualname__}"


def _require_shape(values: Tensor, terms: TokenTerms, name: str, remedy: str) -> None:
    expected = tuple(terms.logprobs.shape)
    if tuple(values.shape) != expected:
        raise UserError(
            f"{name} returned shape {tuple(values.shape)} for tokens of shape {expected}. {remedy}"
        )
