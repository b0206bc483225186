"""An objective is a frozen value, whichever it is; another package may write its own."""

import math
import re
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from steadyrl.base.errors import UserError
from steadyrl.objectives import (
    CISPO,
    DPPO,
    GRPO,
    GSPO,
    NLL,
    ClipMasks,
    DualClip,
    GSPOToken,
    MiniRL,
    Objective,
    ReferenceKL,
    Reinforce,
    TokenTerms,
    Truncation,
)
from steadyrl.objectives.objective_calls import token_masks, token_values

EVERY = [MiniRL, GRPO, CISPO, GSPO, GSPOToken, DualClip, DPPO, Reinforce, NLL]


@pytest.mark.parametrize("kind", EVERY)
def test_an_objective_is_a_frozen_value(kind: type[Objective]) -> None:
    objective = kind()
    assert objective == kind()
    assert hash(objective) == hash(kind())
    assert kind.model_validate_json(objective.model_dump_json()) == objective
    with pytest.raises(ValidationError, match="frozen"):
        objective.name = "other"


def test_flags_say_what_each_objective_reads() -> None:
    def those(flag: str) -> list[type[Objective]]:
        return [kind for kind in EVERY if getattr(kind(), flag)]

    assert those("corrects_mismatch") == [MiniRL, DPPO]
    assert those("reads_responses") == [GSPO, GSPOToken]
    assert those("proportional_to_advantage") == [kind for kind in EVERY if kind is not NLL]
    assert those("reads_reference") == []
    held = ReferenceKL(coefficient=0.1).apply_to(MiniRL())
    assert (held.reads_reference, held.proportional_to_advantage) == (True, False)
    assert (held.corrects_mismatch, held.reads_responses) == (True, False)
    assert ReferenceKL(coefficient=0.1).apply_to(GSPO()).reads_responses


@pytest.mark.parametrize(
    ("kind", "bounds"),
    [
        (MiniRL, ("clip_low", "clip_high", "weight_cap")),
        (GRPO, ("clip_low", "clip_high")),
        (DualClip, ("clip_low", "clip_high", "ratio_cap")),
        (DPPO, ("threshold", "weight_cap")),
    ],
)
def test_bounds_are_positive_and_disabled_by_infinity(
    kind: type[Objective], bounds: tuple[str, ...], scattered_terms: TokenTerms
) -> None:
    for bound in bounds:
        with pytest.raises(ValidationError, match=bound):
            kind(**{bound: 0.0})
        with pytest.raises(ValidationError, match=bound):
            kind(**{bound: math.nan})
    masks = kind(**dict.fromkeys(bounds, math.inf)).masks(scattered_terms)
    for tokens in (masks.clipped_low, masks.clipped_high, masks.truncated):
        assert tokens is None or not tokens.any()


class Given(Objective):
    """Returns what `value` makes of the terms."""

    value: Callable[[TokenTerms], Any]
    mask: Callable[[TokenTerms], Any] = lambda terms: ClipMasks()
    proportional_to_advantage = True

    def __call__(self, terms: TokenTerms) -> Tensor:
        return self.value(terms)

    def masks(self, terms: TokenTerms) -> ClipMasks:
        return self.mask(terms)


def test_a_flag_is_set_with_or_without_an_annotation() -> None:
    class Plain(Given):
        reads_responses = True

    class Annotated(Given):
        reads_responses: ClassVar[bool] = True

    with pytest.warns(UserWarning, match="shadows an attribute"):

        class Field(Given):
            reads_responses: bool = True

    for kind in (Plain, Annotated, Field):
        assert kind(value=raising).reads_responses
        assert Truncation().apply_to(kind(value=raising)).reads_responses


def raising(terms: TokenTerms) -> Tensor:
    raise KeyError("ratio")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (raising, r".__call__ failed: KeyError: 'ratio' \(.*test_objective.py:\d+\)."),
        (lambda terms: None, " returned None"),
        (lambda terms: terms.logprobs.sum(), r" returned shape \(\) for tokens of shape \(8, 12\)"),
        (lambda terms: terms.logprobs.sum(1), r" returned shape \(8,\) for tokens of shape"),
        (lambda terms: terms.loss_mask, " returned torch.bool instead of floats"),
        (lambda terms: terms.logprobs.detach(), " returned values without a gradient"),
    ],
)
@pytest.mark.parametrize(
    "wrap", [lambda o: o, Truncation().apply_to, ReferenceKL(coefficient=0.1).apply_to]
)
def test_an_objective_that_cannot_be_used_is_named(
    scattered_terms: TokenTerms,
    value: Callable[[TokenTerms], Any],
    message: str,
    wrap: Callable[[Objective], Objective],
) -> None:
    objective = wrap(Given(value=value))
    with pytest.raises(UserError, match=re.escape(f"{__name__}:Given") + message):
        token_values(objective, scattered_terms)


def masking_by_a_number(terms: TokenTerms) -> ClipMasks:
    masks = ClipMasks()
    object.__setattr__(masks, "masked", terms.advantages)  # unchecked, as outside the test suite
    return masks


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (raising, r".masks failed: KeyError: 'ratio' \(.*test_objective.py:\d+\)."),
        (lambda terms: terms.loss_mask, ".masks returned tensor"),
        (
            lambda terms: ClipMasks(masked=terms.loss_mask[:, 1:]),
            r".masks returned shape \(8,",
        ),
        (masking_by_a_number, ".masks returned torch.float64 instead of bools"),
    ],
)
@pytest.mark.parametrize(
    "wrap", [lambda o: o, Truncation().apply_to, ReferenceKL(coefficient=0.1).apply_to]
)
def test_masks_that_cannot_be_used_are_named(
    scattered_terms: TokenTerms,
    mask: Callable[[TokenTerms], Any],
    message: str,
    wrap: Callable[[Objective], Objective],
) -> None:
    objective = wrap(Given(value=lambda terms: terms.logprobs, mask=mask))
    with pytest.raises(UserError, match=re.escape(f"{__name__}:Given") + message):
        token_masks(objective, scattered_terms)


def test_what_can_be_used_comes_through(scattered_terms: TokenTerms) -> None:
    masks = ClipMasks(masked=scattered_terms.loss_mask)
    objective = Given(value=lambda terms: 2 * terms.logprobs, mask=lambda terms: masks)
    assert torch.equal(token_values(objective, scattered_terms), 2 * scattered_terms.logprobs)
    assert token_masks(objective, scattered_terms) is masks
