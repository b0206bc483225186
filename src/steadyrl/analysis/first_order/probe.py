"""Error of an objective's gradient against that of the expected reward of whole responses.

arXiv:2512.01374 replaces the gradient of J_seq (equation 2) by that of J_token (equation 4), which
is equal to it when pi_theta = mu_old, and to first order beyond:

    grad J_seq   = E_mu[ prod_s w_s  A  sum_t grad log pi_theta(y_t | x, y_<t) ]
    grad J_token = E_mu[ sum_t w_t  A  grad log pi_theta(y_t | x, y_<t) ]

where w_t = pi_theta / mu_old of token t, and A is the reward, or the reward less a baseline that
does not depend on the response: both expectations are the same. Here the two, and the gradient of
any other objective, are computed and compared, either over all responses there are or over a
sample of them.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from steadyrl.analysis.first_order.gradient_error import (
    FirstOrderError,
    exact_error,
    jackknife_error,
)
from steadyrl.base.errors import UserError
from steadyrl.objectives import Aggregation, MiniRL, TokenTerms, token_weights
from steadyrl.objectives.sequences import log_product
from steadyrl.policies.policy import Policy
from steadyrl.records.routing import Routing
from steadyrl.records.token_batch import TokenBatch

TokenObjective = Callable[[TokenTerms], Float[Tensor, "B T"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimator:
    """An objective and how its tokens are summed: what a loss is made of.

    Example:
        Estimator(objective=GRPO(), aggregation=Aggregation.LENGTH_NORM)
    """

    objective: TokenObjective
    aggregation: Aggregation = Aggregation.TOKEN_SUM

    def __post_init__(self) -> None:
        if self.aggregation not in (Aggregation.TOKEN_SUM, Aggregation.LENGTH_NORM):
            raise UserError(
                "Gradients are compared under the aggregations 'token_sum' and 'length_norm', got "
                f"{self.aggregation.value!r}. In place of 'constant' use 'token_sum', of which it "
                "is a multiple. Means over tokens depend on the lengths of a whole batch or group: "
                "their expectation is no sum over responses."
            )


def sequence_level(terms: TokenTerms) -> Float[Tensor, "B T"]:
    """sg[prod_s w_s] A_t log pi_theta(y_t | x, y_<t): its gradient is that of equation 2."""
    weight = log_product(terms.log_weight, terms.loss_mask, terms.response_ids).exp()
    return terms.weighted_logprobs(weight * terms.advantages)


def token_level(terms: TokenTerms) -> Float[Tensor, "B T"]:
    """sg[w_t] A_t log pi_theta(y_t | x, y_<t): its gradient is that of equation 4."""
    return MiniRL(clip_low=math.inf, clip_high=math.inf, weight_cap=math.inf)(terms)


def all_responses(prompt: Int[Tensor, " S"], vocabulary: Sequence[int], length: int) -> TokenBatch:
    """Every response of `length` tokens to `prompt`, V**length rows in lexicographic order.

    Advantages are 0 and log-probabilities of the engine are missing: fill them in with
    `dataclasses.replace`. Where `vocabulary` is not all that a policy can write, the responses left
    out count as having an advantage of 0.
    """
    responses = torch.tensor(list(itertools.product(vocabulary, repeat=length)))
    tokens = torch.cat([prompt.expand(len(responses), -1), responses], dim=1)
    in_response = (torch.arange(tokens.shape[1]) >= len(prompt)).expand(tokens.shape)
    return TokenBatch(
        tokens=tokens,
        attention_mask=torch.ones_like(in_response),
        loss_mask=in_response,
        group_ids=torch.arange(len(tokens)),
        response_ids=torch.arange(len(tokens)),
        advantages=torch.zeros(tokens.shape),
    )


def policy_terms(
    policy: Policy, batch: TokenBatch, *, temperature: float = 1.0, replay: Routing | None = None
) -> TokenTerms:
    """Inputs of an objective for `batch`, with log-probabilities computed by `policy`.

    Args:
        batch: With `rollout_logprobs`, and `old_logprobs` if they are not those of `policy`.
        temperature: That of the sampling.
        replay: Expert choices for `policy` to use.

    Raises:
        UserError: no engine's log-probabilities are in the batch.
    """
    if batch.rollout_logprobs is None:
        raise UserError(
            "The gradients are expectations over what the rollout engine samples, but the batch "
            "has no rollout_logprobs. Give a batch that an engine sampled, or fill them in."
        )
    device, support = policy.device, batch.token_support
    logprobs = policy.score(
        batch.tokens.to(device),
        batch.attention_mask.to(device),
        batch.loss_mask.to(device),
        temperature=temperature,
        support=None if support is None else support.to(device),
        replay=None if replay is None else replay.to(device),
    ).logprobs
    old = logprobs.detach() if batch.old_logprobs is None else batch.old_logprobs.to(device)
    return TokenTerms(
        logprobs=logprobs,
        old_logprobs=old,
        rollout_logprobs=batch.rollout_logprobs.to(device),
        advantages=batch.advantages.to(device),
        loss_mask=batch.loss_mask.to(device),
        response_ids=batch.response_ids.to(device),
    )


def exact_errors(
    terms: TokenTerms, parameters: Sequence[Tensor], estimators: Mapping[str, Estimator]
) -> dict[str, FirstOrderError]:
    """The error of each estimator, with the expectation over mu_old taken in full.

    Args:
        terms: One row for each response whose advantage is not 0, each once. Its chance is the
            product of its `rollout_logprobs`.
        parameters: What gradients are taken by. `terms.logprobs` depends on them.
        estimators: By the name under which their error is returned.

    Raises:
        UserError: a gradient is 0, so that it has no direction.
    """
    kept = terms.rollout_logprobs.masked_fill(~terms.loss_mask, 0.0)
    chances = kept.sum(dim=1, keepdim=True).exp()
    gradients = _gradients(terms, estimators, chances * len(chances), parameters, terms)
    products = gradients @ gradients.T
    return {name: exact_error(products, i, name) for i, name in enumerate(estimators, start=1)}


def sampled_errors(
    policy: Policy,
    batch: TokenBatch,
    estimators: Mapping[str, Estimator],
    *,
    blocks: int = 32,
    confidence: float = 0.95,
    temperature: float = 1.0,
    replay: Routing | None = None,
    live_target: bool = False,
) -> dict[str, FirstOrderError]:
    """The error of each estimator, from responses that an engine sampled, with intervals.

    Rows are split into blocks of whole groups, and gradients computed for each block. Their inner
    products are averaged over pairs of different blocks, so that noise does not add to them: the
    squares of lengths, that of g - g* included, are unbiased. Intervals are those of the jackknife
    that leaves out one block at a time, by the normal distribution; for lengths, of their squares.

    Memory is that of (number of estimators + 1) x blocks gradients in float64.

    Args:
        batch: As in `policy_terms`. Its advantages are rewards, or rewards less a baseline.
        estimators: By the name under which their error is returned.
        blocks: How many gradients the sample is split into.
        confidence: How often the intervals are to hold the truth.
        temperature: That of the sampling.
        replay: Expert choices for `policy` to use.
        live_target: J_seq is that of the policy under its own routing, whatever `replay` is, so
            that the error holds the bias of replay too (arXiv:2512.01374, table 1).

    Raises:
        UserError: no engine sampled the rows, there are fewer groups than blocks or fewer than 3
            blocks, or the sample is too small to tell a gradient from 0.
    """
    parameters = [p for p in policy.model.parameters() if p.requires_grad]
    gradients: list[Tensor] = []
    for rows in _blocks(batch.group_ids, blocks):
        part = batch.rows(rows)
        routes = None if replay is None else replay.rows(rows, part.tokens.shape[1])
        terms = policy_terms(policy, part, temperature=temperature, replay=routes)
        target = policy_terms(policy, part, temperature=temperature) if live_target else terms
        uniform = torch.ones_like(terms.logprobs[:, :1])
        gradients.append(_gradients(terms, estimators, uniform, parameters, target))
    products = torch.einsum("ken,lfn->kelf", torch.stack(gradients), torch.stack(gradients))
    return {
        name: jackknife_error(products, i, name, confidence=confidence)
        for i, name in enumerate(estimators, start=1)
    }


def _blocks(group_ids: Int[Tensor, " B"], blocks: int) -> list[Tensor]:
    """The rows of each block. Rows of one group share a prompt and a baseline, so they stay."""
    groups = group_ids.unique()
    if not 3 <= blocks <= len(groups):
        raise UserError(
            f"blocks is {blocks}, for {len(groups)} groups of responses. Set it from 3 to the "
            "number of groups; a block needs a group, and an interval some blocks."
        )
    return [torch.isin(group_ids, part).nonzero().flatten() for part in groups.tensor_split(blocks)]


def _gradients(
    terms: TokenTerms,
    estimators: Mapping[str, Estimator],
    row_weights: Float[Tensor, "B 1"],
    parameters: Sequence[Tensor],
    target: TokenTerms,
) -> Float[Tensor, "E N"]:
    """Row 0: grad J_seq of `target`. Row i: the gradient of estimator i, less row 0."""
    reference = _gradient(target, Estimator(objective=sequence_level), row_weights, parameters)
    others = [_gradient(terms, e, row_weights, parameters) for e in estimators.values()]
    return torch.stack([reference, *(other - reference for other in others)])


def _gradient(
    terms: TokenTerms,
    estimator: Estimator,
    row_weights: Float[Tensor, "B 1"],
    parameters: Sequence[Tensor],
) -> Float[Tensor, " N"]:
    """Gradient of the mean over responses, each row times its weight."""
    rows = torch.arange(len(terms.loss_mask), device=terms.loss_mask.device)
    weights = row_weights * token_weights(
        terms.loss_mask, rows, estimator.aggregation, response_ids=terms.response_ids
    )
    value = (weights * estimator.objective(terms)).sum()
    gradients = torch.autograd.grad(
        value, parameters, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return torch.cat([gradient.flatten().double() for gradient in gradients])
