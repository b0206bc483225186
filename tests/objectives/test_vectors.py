"""Our losses against verl's, on the tokens and answers that benchmarks/objective_vectors.py wrote.

verl 0.9.1 and this package were written apart; where they differ, the test says in what.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.closeness import assert_close
from torch import Tensor

from steadyrl.objectives import (
    CISPO,
    DPPO,
    GRPO,
    GSPO,
    Aggregation,
    Divergence,
    DualClip,
    GSPOToken,
    Masking,
    MismatchLevel,
    Objective,
    TokenTerms,
    Truncation,
    aggregate,
    group_mean,
    group_mean_std,
    leave_one_out,
    token_weights,
)

RECORD: dict[str, Any] = json.loads(
    (Path(__file__).parent / "vectors" / "verl.json").read_text(encoding="utf-8")
)
# verl's mean over all tokens is our TOKEN_MEAN, and its horizon of 6 positions our constant length.
AGGREGATIONS = {
    "token-mean": Aggregation.TOKEN_MEAN,
    "seq-mean-token-mean": Aggregation.LENGTH_NORM,
    "seq-mean-token-sum": Aggregation.TOKEN_SUM,
    "seq-mean-token-sum-norm": Aggregation.CONSTANT,
}
OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "grpo": GRPO,
    "dapo": GRPO,
    "dr_grpo": GRPO,
    "dual_clip": DualClip,
    "gspo": GSPO,
    "cispo": CISPO,
    "dppo_tv": partial(DPPO, divergence=Divergence.TOTAL_VARIATION),
    "dppo_kl": partial(DPPO, divergence=Divergence.KL),
}


def recorded(name: str) -> Tensor:
    return torch.tensor(RECORD["inputs"][name])


@pytest.fixture
def terms() -> TokenTerms:
    return TokenTerms(
        logprobs=recorded("logprobs").requires_grad_(),
        old_logprobs=recorded("old_logprobs"),
        rollout_logprobs=recorded("rollout_logprobs"),
        advantages=recorded("advantages"),
        loss_mask=recorded("loss_mask"),
    )


def options(name: str) -> dict[str, float]:
    """Our names of what verl was asked with."""
    given = RECORD["losses"][name]["options"]
    low, high = given["clip_ratio_low"], given["clip_ratio_high"]
    match name:
        case "dppo_tv" | "dppo_kl":
            return {"threshold": high, "weight_cap": given["clip_ratio_c"]}
        case "dual_clip":
            return {"clip_low": low, "clip_high": high, "ratio_cap": given["clip_ratio_c"]}
        case _:
            return {"clip_low": low, "clip_high": high}


def loss_and_gradient(terms: TokenTerms, name: str, objective: Tensor) -> tuple[float, Tensor]:
    aggregation = AGGREGATIONS[RECORD["losses"][name]["aggregation"]]
    length = terms.loss_mask.shape[1] if aggregation is Aggregation.CONSTANT else None
    weights = token_weights(
        terms.loss_mask, recorded("group_ids"), aggregation, constant_length=length
    )
    loss = aggregate(objective, weights)
    (gradient,) = torch.autograd.grad(loss, terms.logprobs)
    return loss.item(), gradient


def test_every_recorded_loss_is_compared() -> None:
    assert set(OBJECTIVES) == set(RECORD["losses"])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_loss_and_gradient_are_those_of_verl(terms: TokenTerms, name: str) -> None:
    loss, gradient = loss_and_gradient(terms, name, OBJECTIVES[name](**options(name))(terms))
    answer = RECORD["losses"][name]
    assert_close(loss, answer["loss"], 16)
    assert_close(gradient, torch.tensor(answer["gradient"]), 16, torch.float32)
    # Clipping is on in some rows and off in others, or the comparison would say little.
    stopped = (gradient == 0) & terms.loss_mask
    assert name == "cispo" or 0 < stopped.sum() < terms.loss_mask.sum()


def test_gspo_of_verl_is_the_token_variant(terms: TokenTerms) -> None:
    objective = GSPOToken(**options("gspo"))(terms)
    _, gradient = loss_and_gradient(terms, "gspo", objective)
    recorded_gradient = torch.tensor(RECORD["losses"]["gspo"]["gradient"])
    assert_close(gradient, recorded_gradient, 16, torch.float32)


@pytest.mark.parametrize(
    ("name", "weigh"),
    [
        ("token_truncated", Truncation(cap=1.2).weights),
        ("token_masked", Masking(low=0.8, high=1.3).weights),
        (
            "sequence_truncated",
            Truncation(level=MismatchLevel.SEQUENCE_PRODUCT, cap=1.2).weights,
        ),
        (
            "sequence_masked",
            Masking(level=MismatchLevel.SEQUENCE_PRODUCT, low=0.4, high=2.5).weights,
        ),
    ],
)
def test_weights_of_the_mismatch_are_those_of_verl(
    terms: TokenTerms, name: str, weigh: Callable[[TokenTerms], Tensor]
) -> None:
    expected = torch.tensor(RECORD["weights"][name])
    assert_close(weigh(terms), expected, 16, torch.float32)


def test_masked_geometric_means_are_the_responses_that_verl_rejects(terms: TokenTerms) -> None:
    # verl takes rejected responses out of the loss's denominators as well; we leave them in.
    level = MismatchLevel.SEQUENCE_GEOMETRIC_MEAN
    weights = Masking(level=level, low=0.9, high=1.1).weights(terms)
    kept = (weights != 0).tolist()
    assert kept == torch.tensor(RECORD["weights"]["geometric_mean_kept"]).bool().tolist()


@pytest.mark.parametrize("estimator", [group_mean, group_mean_std, leave_one_out])
def test_advantages_are_those_of_verl(estimator: Callable[..., Tensor]) -> None:
    # verl accumulates in float32.
    got = estimator(recorded("rewards"), recorded("group_ids"))
    expected = torch.tensor(RECORD["advantages"][estimator.__name__])
    assert_close(got, expected, 16, torch.float32)
