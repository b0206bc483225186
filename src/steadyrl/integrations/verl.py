"""Our objectives as policy losses of verl.

    actor_rollout_ref.model.external_lib=steadyrl.integrations.verl
    actor_rollout_ref.actor.policy_loss.loss_mode=steadyrl.minirl

Importing this module registers each of `LOSSES` with verl as `steadyrl.NAME`. verl imports the
module named by `external_lib` in every worker before it builds a model.

    verl's mini-batch -> log pi_theta, pi_old, advantages, pi_old / mu_old -> objective
                      -> verl's own aggregation

verl keeps everything but the objective: rollouts, advantages, the aggregation of
`loss_agg_mode` over the global batch, entropy and KL terms. verl hands a loss no log mu, but the
weights of its rollout correction, pi_old / mu_old; log mu follows from them.
"""

from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from steadyrl.base.errors import UserError
from steadyrl.integrations.verl_names import agg_loss, register_policy_loss
from steadyrl.integrations.verl_settings import (
    HAND_OVER,
    LOSSES,
    RolloutCorrection,
    objective_for,
)
from steadyrl.objectives import (
    ClipMasks,
    Objective,
    TokenTerms,
    clip_diagnostics,
    mismatch_diagnostics,
    staleness_diagnostics,
    weight_diagnostics,
)

__all__ = ["LOSSES", "policy_loss"]

PREFIX = "actor/"
"""Before our names of metrics, as before verl's own metrics of a loss."""


def policy_loss(
    name: str,
    *,
    old_log_prob: Float[Tensor, "B T"],
    log_prob: Float[Tensor, "B T"],
    advantages: Float[Tensor, "B T"],
    response_mask: Tensor,
    loss_agg_mode: str = "token-mean",
    config: Any = None,
    rollout_is_weights: Float[Tensor, "B T"] | None = None,
) -> tuple[Float[Tensor, ""], dict[str, float]]:
    """The loss of a micro-batch and its metrics, as verl calls its policy losses.

    loss = -aggregate(J) with verl's aggregation, where J is the objective `name`. An objective that
    does not weigh tokens by pi_theta / mu_old itself is multiplied by `rollout_is_weights`.

    Args:
        response_mask: Tokens that carry gradient, of shape (B, T).
        config: verl's `ActorConfig`.
        rollout_is_weights: pi_old / mu_old by verl's rollout correction; None: it is off.

    Raises:
        UserError: a setting of verl cannot be honored.
    """
    if config is None:
        raise UserError(f"steadyrl.{name} needs verl's config of the actor, got None. Pass it.")
    objective = objective_for(name, config)
    correction = RolloutCorrection.of(config)
    _check_correction(name, objective, correction, rollout_is_weights)
    loss_mask = response_mask.bool()
    mismatch = _log_mismatch(correction, rollout_is_weights, loss_mask)
    terms = TokenTerms(
        logprobs=log_prob,
        old_logprobs=old_log_prob,
        rollout_logprobs=old_log_prob if mismatch is None else old_log_prob - mismatch,
        advantages=advantages,
        loss_mask=loss_mask,
    )
    values, masks = objective(terms), objective.masks(terms)
    if rollout_is_weights is not None and not objective.corrects_mismatch:
        values = values.masked_fill(rollout_is_weights == 0, 0.0) * rollout_is_weights
    loss = agg_loss(-values, loss_mask, loss_agg_mode, **config.global_batch_info)
    return loss, _metrics(terms, masks, knows_rollout=mismatch is not None)


def _check_correction(
    name: str, objective: Objective, correction: RolloutCorrection, weights: Tensor | None
) -> None:
    """Refuses a rollout correction that is not the one the objective needs."""
    if correction.bypass:
        correction.check_bypass(name)
        return
    if not objective.corrects_mismatch:
        return
    if (obstacle := correction.obstacle) is not None:
        raise UserError(
            f"steadyrl.{name} needs pi_old / mu_old of each token from verl's rollout correction, "
            f"but {obstacle}, and hand its settings to the loss: {HAND_OVER}"
        )
    if weights is None:
        raise UserError(
            f"steadyrl.{name} weighs tokens by pi_theta / mu_old, but verl computed no "
            "rollout_is_weights. Set actor_rollout_ref.rollout.calculate_log_probs to True."
        )


def _log_mismatch(
    correction: RolloutCorrection, weights: Tensor | None, loss_mask: Bool[Tensor, "B T"]
) -> Float[Tensor, "B T"] | None:
    """log(pi_old / mu_old) of each loss token; None: it is not known."""
    if correction.bypass:  # verl's old log-probabilities are those of the rollout
        return torch.zeros(loss_mask.shape, device=loss_mask.device)
    if weights is None or correction.obstacle is not None:
        return None
    return weights.masked_fill(~loss_mask, 1.0).log()


def _metrics(terms: TokenTerms, masks: ClipMasks, *, knows_rollout: bool) -> dict[str, float]:
    """Our metrics of the loss tokens.

    Every micro-batch must have each metric, so one without loss tokens counts as a token on which
    all policies agree.
    """
    kept = terms.loss_mask
    bounds = {field: getattr(masks, field) for field in ClipMasks.__dataclass_fields__}
    if not kept.any():
        one = torch.zeros(1)
        now = old = rollout = one
        met = {field: None if value is None else one.bool() for field, value in bounds.items()}
    else:
        now, old = terms.logprobs.detach()[kept], terms.old_logprobs[kept]
        rollout = terms.rollout_logprobs[kept]
        met = {field: None if value is None else value[kept] for field, value in bounds.items()}
    metrics = staleness_diagnostics(old, now) | clip_diagnostics(**met)
    if knows_rollout:
        metrics |= mismatch_diagnostics(rollout, old) | weight_diagnostics(now, rollout)
    return {f"{PREFIX}{metric}": value for metric, value in metrics.items()}


for _name in LOSSES:
    register_policy_loss(f"steadyrl.{_name}")(partial(policy_loss, _name))
