"""Calls to an objective that validate its results; errors name the objective's class."""

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from steadyrl.base.errors import UserError, call_user_code, require_type
from steadyrl.objectives.clipping import ClipMasks
from steadyrl.objectives.objective import Objective
from steadyrl.objectives.terms import TokenTerms


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
