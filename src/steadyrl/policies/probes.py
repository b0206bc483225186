"""Probes of what a model family supports, run on a small float32 copy of the model.

A probe returns a sentence with the reason why the family is not supported, or None. The result only
depends on the architecture, so it is cached. Families that cannot be made small are copied in full.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from steadyrl.policies.compat import model_of
from steadyrl.policies.loading import model_from_config
from steadyrl.policies.merged_weights import adapted_layers, base_weights
from steadyrl.policies.small_copy import FAILURES, Architecture
from steadyrl.policies.weights import copy_weights

Probe = Callable[[PreTrainedModel], str | None]

LENGTH = 14
"""Tokens per probed row: slightly more than three windows of a small copy."""

CUTS = (1, 6, LENGTH - 1)
"""Positions at which rows start to differ, or end."""

SEEDS = (0, 1)


def unsupported_reason(probe: Probe, model: PreTrainedModel) -> str | None:
    """Result of `probe` on a small copy of `model`, or on a full copy if it cannot be small."""
    if hasattr(model, "is_probed"):  # the model is itself a copy, in a nested probe
        return probe(model)
    family = Architecture.of(_without_adapter(model))
    if _small_copy(family) is not None:
        return _reason_of_copy(probe, family)
    whole = model_from_config(model, torch.float32)
    copy_weights(base_weights(model), whole.state_dict())
    return _run(probe, whole)


def _without_adapter(model: PreTrainedModel) -> PreTrainedModel:
    """The modules of `model` before peft wrapped some: an adapter changes nothing that is probed.

    If there is an adapter, they are built anew without weights.
    """
    if next(adapted_layers(model), None) is None:
        return model
    with torch.device("meta"):
        return model_of(type(model), deepcopy(model.config), torch.float32).train(model.training)


@lru_cache(maxsize=4)
def _small_copy(family: Architecture) -> PreTrainedModel | None:
    return family.small_copy()


@lru_cache(maxsize=256)
def _reason_of_copy(probe: Probe, family: Architecture) -> str | None:
    return _run(probe, deepcopy(_small_copy(family)))


def _run(probe: Probe, model: PreTrainedModel | None) -> str | None:
    assert model is not None
    model.is_probed = True
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return probe(model)


def agree(found: Tensor, expected: Tensor) -> bool:
    """Whether all values are equal up to rounding, relative to the largest magnitude."""
    tolerance = torch.finfo(expected.dtype).eps ** 0.5 * float(expected.abs().max())
    return torch.allclose(found, expected, rtol=0, atol=tolerance)


@torch.no_grad()
def causality_unsupported_reason(model: PreTrainedModel) -> str | None:
    """Why the outputs of `model` at a token do not only depend on the tokens before it; or None.

    The probe changes later tokens, the length of the row and the other rows of the batch.
    """
    first, second = SEEDS
    reason = _leak(model, first)
    return reason and _leak(model, second)  # a tie between experts could break differently once


def _leak(model: PreTrainedModel, seed: int) -> str | None:
    family = type(model).__name__
    tokens, others = _rows(model, seed)
    try:
        whole = _logits(model, tokens[None])[0]
        for what, cut, rows in _variations(tokens, others):
            if not agree(_logits(model, rows)[0, :cut], whole[:cut]):
                return (
                    f"{family} is not a causal language model: its output at a token depends on "
                    f"{what}. Use a checkpoint of a causal family, or set is_decoder to true in "
                    "its config.json if it was trained as a decoder."
                )
    except FAILURES as error:
        return f"{family} fails on a row of {LENGTH} tokens: {error}."
    return None


def _variations(tokens: Tensor, others: Tensor) -> Iterator[tuple[str, int, Tensor]]:
    """Variations of the batch whose first row starts with the first `cut` of `tokens`."""
    for cut in CUTS:
        yield "the tokens after it", cut, torch.cat([tokens[:cut], others[cut:]])[None]
        yield "the length of its row", cut, tokens[None, :cut]
        padded = torch.cat([tokens[:cut], tokens.new_zeros(LENGTH - cut)])
        yield "other rows of its batch", cut, torch.stack([padded, others])


def _rows(model: PreTrainedModel, seed: int) -> Int[Tensor, "2 T"]:
    """Two rows that differ at every position."""
    generator = torch.Generator().manual_seed(seed)
    size = min(model.config.get_text_config().vocab_size, 40)
    special = 3 if size > 4 else 0  # skip the first tokens, unless the vocabulary is tiny
    tokens = torch.randint(special, size, (LENGTH,), generator=generator)
    other = special + (tokens - special + 1) % (size - special)
    return torch.stack([tokens, other]).to(model.device)


def _logits(model: PreTrainedModel, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
    return model(input_ids=tokens, use_cache=False).logits
