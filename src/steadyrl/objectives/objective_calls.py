"""Calls of an objective with checked results: an error names the objective's class."""

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from steadyrl.base.errors import UserError, answer_of, of_kind
from steadyrl.objectives.clipping import ClipMasks
from steadyrl.objectives.objective import Objective
from steadyrl.objectives.terms import TokenTerms


def token_values(objective: Objective, terms: TokenTerms) -> Float[Tensor, "B T"]:
    """The objective of each token.

    Raises:
        UserError: it raises, or returns anything but a floating-point tensor of the shape of the
            terms with a gradient.
    """
    name, remedy = (
        _name(objective),
        "Return one value for each token, computed from terms.logprobs.",
    )
    values = _result(objective, partial(objective, terms), "__call__")
    of_kind(values, Tensor, given_by=name, noun="tensor", remedy=remedy)
    _require_shape(values, terms, name, remedy)
    if not values.is_floating_point():
        raise UserError(f"{name} returns {values.dtype} in place of floats. {remedy}")
    if torch.is_grad_enabled() and terms.logprobs.requires_grad and not values.requires_grad:
        raise UserError(f"{name} returns values that have no gradient. {remedy}")
    return values


def token_masks(objective: Objective, terms: TokenTerms) -> ClipMasks:
    """Tokens that the objective clips, truncates or masks.

    Raises:
        UserError: `masks` raises, or returns anything but `ClipMasks` of boolean tensors of the
            shape of the terms.
    """
    name = f"{_name(objective)}.masks"
    remedy = "Return ClipMasks of one bool for each token."
    masks = _result(objective, partial(objective.masks, terms), "masks")
    of_kind(masks, ClipMasks, given_by=name, noun="ClipMasks", remedy=remedy)
    for tokens in (getattr(masks, field.name) for field in fields(masks)):
        if tokens is not None:
            of_kind(tokens, Tensor, given_by=name, noun="tensor", remedy=remedy)
            _require_shape(tokens, terms, name, remedy)
            if tokens.dtype != torch.bool:
                raise UserError(f"{name} returns {tokens.dtype} in place of bools. {remedy}")
    return masks


def _result(objective: Objective, call: Callable[[], Any], method: str) -> Any:
    """What the call returns. An exception of this package's own classes is a defect of theirs."""
    if type(objective).__module__.startswith("steadyrl."):
        return call()
    return answer_of(
        call, failure=f"{_name(objective)}.{method} failed", remedy=f"Correct its {method}."
    )


def _name(objective: Objective) -> str:
    return f"{type(objective).__module__}:{type(objective).__qualname__}"


def _require_shape(values: Tensor, terms: TokenTerms, name: str, remedy: str) -> None:
    expected = tuple(terms.logprobs.shape)
    if tuple(values.shape) != expected:
        raise UserError(
            f"{name} returns shape {tuple(values.shape)} for tokens of shape {expected}. {remedy}"
        )
