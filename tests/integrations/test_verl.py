"""Our objectives as verl's policy losses: the same values and gradients."""

from typing import Any

import pytest
import torch

from tests.closeness import assert_close

pytest.importorskip("verl")
pytestmark = [
    pytest.mark.verl,
    pytest.mark.filterwarnings("default"),  # what verl and its dependencies warn of is theirs
]

from steadyrl.integrations.verl import LOSSES  # noqa: E402
from steadyrl.objectives import (  # noqa: E402
    CISPO,
    DPPO,
    GRPO,
    GSPO,
    Divergence,
    DualClip,
    GSPOToken,
    Masking,
    MiniRL,
    MismatchLevel,
    Objective,
    Reinforce,
    TokenTerms,
    Truncation,
)
from tests.integrations.verl_world import (  # noqa: E402
    AGGREGATIONS,
    EXACT,
    actor_config,
    assert_same_loss,
    in_ppo_loss,
    loss_in_verl,
    options,
    token_terms,
    weights_of,
)

OURS: dict[str, tuple[Objective, dict[str, float]]] = {
    "minirl": (MiniRL(), {"low": 0.2, "high": 0.27, "c": 5.0}),
    "dppo_tv": (DPPO(weight_cap=1.5), {"low": 0.15, "high": 0.15, "c": 1.5}),
    "dppo_kl": (
        DPPO(divergence=Divergence.KL, threshold=0.05),
        {"low": 0.05, "high": 0.05, "c": 20.0},
    ),
    "grpo": (GRPO(), {"low": 0.2, "high": 0.27}),
    "dual_clip": (DualClip(ratio_cap=1.5), {"low": 0.2, "high": 0.2, "c": 1.5}),
    "gspo": (GSPO(), {"low": 3e-4, "high": 4e-4}),
    "gspo_token": (GSPOToken(), {"low": 3e-4, "high": 4e-4}),
    "cispo": (CISPO(), {"low": 0.2, "high": 0.27}),
    "reinforce": (Reinforce(), {}),
}
"""Each loss, with verl's names of its bounds without `clip_ratio_`."""


@pytest.fixture
def terms() -> TokenTerms:
    return token_terms()


def test_every_loss_is_compared() -> None:
    assert OURS.keys() == LOSSES.keys()


@pytest.mark.parametrize("name", OURS)
def test_losses_and_gradients_are_ours(terms: TokenTerms, name: str) -> None:
    objective, bounds = OURS[name]
    weights = weights_of(terms, **EXACT) if objective.corrects_mismatch else None
    correction = EXACT if objective.corrects_mismatch else None
    config = actor_config(options(mode="seq-mean-token-sum", correction=correction, **bounds))

    loss, metrics = loss_in_verl(name, terms, config, weights)

    assert_same_loss(loss, objective(terms), terms, "seq-mean-token-sum")
    assert ("actor/mismatch_kl_k3" in metrics) == objective.corrects_mismatch


@pytest.mark.parametrize("mode", AGGREGATIONS)
def test_aggregations_are_ours(terms: TokenTerms, mode: str) -> None:
    objective, bounds = OURS["minirl"]
    config = actor_config(options(mode=mode, correction=EXACT, **bounds))

    loss, _ = loss_in_verl("minirl", terms, config, weights_of(terms, **EXACT))

    assert_same_loss(loss, objective(terms), terms, mode)


def test_minirl_is_its_equation(terms: TokenTerms) -> None:
    config = actor_config(
        options(mode="seq-mean-token-sum", correction=EXACT, low=0.2, high=0.27, c=1.5)
    )
    loss, _ = loss_in_verl("minirl", terms, config, weights_of(terms, **EXACT))

    expected = torch.zeros((), dtype=torch.float64)
    for place in terms.loss_mask.nonzero():
        now, old, rollout, advantage = (
            values[tuple(place)]
            for values in (
                terms.logprobs,
                terms.old_logprobs,
                terms.rollout_logprobs,
                terms.advantages,
            )
        )
        ratio = (now - old).exp().item()
        stopped = (advantage > 0 and ratio > 1.27) or (advantage < 0 and ratio < 0.8)
        weight = 0.0 if stopped else min((now - rollout).exp().item(), 1.5)
        expected = expected - weight * advantage * now / len(terms.loss_mask)
    assert_close(loss, expected, 16, torch.float32)


@pytest.mark.parametrize(
    ("settings", "correction"),
    [
        ({"rollout_is": "token", "rollout_is_threshold": 1.2}, Truncation(cap=1.2)),
        (
            {"rollout_is": "token", "rollout_is_threshold": "0.8_1.3"},
            Masking(low=0.8, high=1.3),
        ),
        (
            {"rollout_is": "sequence", "rollout_is_threshold": 1.2},
            Truncation(level=MismatchLevel.SEQUENCE_PRODUCT, cap=1.2),
        ),
    ],
)
def test_rollout_corrections_of_verl_are_ours(
    terms: TokenTerms, settings: dict[str, Any], correction: Truncation | Masking
) -> None:
    config = actor_config(options(correction=settings, low=0.2, high=0.27))

    loss, metrics = loss_in_verl("grpo", terms, config, weights_of(terms, **settings))

    assert_same_loss(loss, correction.apply_to(GRPO())(terms), terms, "token-mean")
    assert "actor/ess" not in metrics  # bounded weights do not tell mu


def test_dppo_works_without_old_logprobs(terms: TokenTerms) -> None:
    config = actor_config(options(correction={"bypass_mode": True}, low=0.15, high=0.15, c=1.5))
    bypassed = TokenTerms(
        logprobs=terms.logprobs,
        old_logprobs=terms.rollout_logprobs,  # by verl's bypass_mode
        rollout_logprobs=terms.rollout_logprobs,
        advantages=terms.advantages,
        loss_mask=terms.loss_mask,
    )
    loss, _ = loss_in_verl("dppo_tv", bypassed, config)

    assert_same_loss(loss, OURS["dppo_tv"][0](terms), terms, "token-mean")


def test_micro_batches_of_verls_actor_sum_to_our_loss(terms: TokenTerms) -> None:
    objective, bounds = OURS["minirl"]
    config = actor_config(
        [
            *options(mode="seq-mean-token-sum", correction=EXACT, **bounds),
            "actor_rollout_ref.actor.policy_loss.loss_mode=steadyrl.minirl",
        ]
    )
    parts = [in_ppo_loss(terms, config, slice(first, first + 4)) for first in (0, 4)]

    assert_same_loss(sum(loss for loss, _ in parts), objective(terms), terms, "seq-mean-token-sum")
    assert parts[0][1]["actor/mismatch_kl_k3"].aggregate() > 0


def test_a_micro_batch_without_tokens_has_the_same_metrics(terms: TokenTerms) -> None:
    _, bounds = OURS["minirl"]
    config = actor_config(options(correction=EXACT, **bounds))
    empty = TokenTerms(
        logprobs=terms.logprobs,
        old_logprobs=terms.old_logprobs,
        rollout_logprobs=terms.rollout_logprobs,
        advantages=terms.advantages,
        loss_mask=torch.zeros_like(terms.loss_mask),
    )
    config.global_batch_info["batch_num_tokens"] = 10
    _, metrics = loss_in_verl("minirl", terms, config, weights_of(terms, **EXACT))
    loss, of_none = loss_in_verl("minirl", empty, config, weights_of(terms, **EXACT))

    assert loss.item() == 0.0
    assert of_none.keys() == metrics.keys()
    assert of_none["actor/mismatch_kl_k3"] == 0.0
    assert of_none["actor/ess"] == 1.0
