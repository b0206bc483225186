"""verl's configuration and losses, called as its workers call them, for the tests beside this."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf, open_dict
from tensordict import TensorDict
from torch import Tensor
from verl.trainer.ppo import core_algos, rollout_corr_helper
from verl.utils.config import omega_conf_to_dataclass
from verl.workers.utils.losses import ppo_loss

import steadyrl.integrations.verl  # noqa: F401  (registers the losses)
from steadyrl.objectives import Aggregation, TokenTerms, aggregate, token_weights
from tests.closeness import assert_close

ROOT = Path(__file__).parents[2]
GIVEN = json.loads((ROOT / "tests/objectives/vectors/verl.json").read_text(encoding="utf-8"))[
    "inputs"
]
HAND_OVER = (
    "+actor_rollout_ref.actor.policy_loss.rollout_correction=${algorithm.rollout_correction}"
)
CORRECTION = "algorithm.rollout_correction."
EXACT = {"rollout_is": "token", "rollout_is_threshold": 1e9}
AGGREGATIONS = {
    "seq-mean-token-sum": Aggregation.TOKEN_SUM,
    "seq-mean-token-mean": Aggregation.LENGTH_NORM,
    "token-mean": Aggregation.TOKEN_MEAN,
    "seq-mean-token-sum-norm": Aggregation.CONSTANT,
}


def given(name: str) -> Tensor:
    return torch.tensor(GIVEN[name], dtype=torch.bool if name == "loss_mask" else torch.float64)


def token_terms() -> TokenTerms:
    """The recorded tokens, on which every branch of every loss is taken."""
    return TokenTerms(
        logprobs=given("logprobs").requires_grad_(),
        old_logprobs=given("old_logprobs"),
        rollout_logprobs=given("rollout_logprobs"),
        advantages=given("advantages"),
        loss_mask=given("loss_mask"),
    )


def options(*, mode: str = "token-mean", correction: dict[str, Any] | None = None, **bounds: float):
    """Command-line options of verl."""
    actor = "actor_rollout_ref.actor."
    return [
        f"{actor}loss_agg_mode={mode}",
        *(f"{actor}clip_ratio_{name}={value}" for name, value in bounds.items()),
        *(f"{CORRECTION}{name}={value}" for name, value in (correction or {}).items()),
        *([HAND_OVER] if correction else []),
    ]


@cache
def defaults() -> DictConfig:
    """verl's whole configuration from its own files."""
    return composed("actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=8")


def composed(*overrides: str) -> DictConfig:
    """verl's configuration with options, as `python -m verl.trainer.main_ppo` reads them."""
    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose("ppo_trainer", list(overrides))


def actor_config(overrides: list[str]) -> Any:
    """verl's configuration of an actor, with options, by a shorter way than `composed`."""
    changes = OmegaConf.from_dotlist([option.lstrip("+") for option in overrides])
    with open_dict(config := defaults().copy()):
        config.merge_with(changes)
    return omega_conf_to_dataclass(config.actor_rollout_ref.actor)


def loss_in_verl(
    name: str, terms: TokenTerms, config: Any, weights: Tensor | None = None
) -> tuple[Tensor, dict[str, float]]:
    """Calls the registered loss as `ppo_loss` does."""
    return core_algos.get_policy_loss_fn(f"steadyrl.{name}")(
        old_log_prob=terms.old_logprobs,
        log_prob=terms.logprobs,
        advantages=terms.advantages,
        response_mask=terms.loss_mask,
        loss_agg_mode=config.loss_agg_mode,
        config=config,
        rollout_is_weights=weights,
    )


def weights_of(terms: TokenTerms, **settings: Any) -> Tensor:
    """verl's weights of the mismatch."""
    return rollout_corr_helper.compute_rollout_correction_weights(
        terms.old_logprobs - terms.rollout_logprobs, terms.loss_mask.double(), **settings
    )[0]


def in_ppo_loss(terms: TokenTerms, config: Any, rows: slice = slice(None)) -> tuple[Any, Any]:
    """verl's loss of an actor's micro-batch, one prompt token before each response."""
    mask = terms.loss_mask[rows]
    weights = weights_of(terms, **EXACT)
    lengths = mask.sum(dim=1)
    flat = [
        torch.cat([line[:length], line.new_zeros(1)])
        for line, length in zip(terms.logprobs[rows], lengths.tolist(), strict=True)
    ]
    data = TensorDict(
        {
            "prompts": torch.ones(len(mask), 1, dtype=torch.long),
            "responses": torch.ones(mask.shape, dtype=torch.long),
            "attention_mask": torch.cat([torch.ones(len(mask), 1), mask], dim=1).long(),
            "response_mask": mask,
            "old_log_probs": terms.old_logprobs[rows],
            "advantages": terms.advantages[rows],
            "rollout_is_weights": weights[rows],
        },
        batch_size=len(mask),
    )
    whole = terms.loss_mask
    for name, value in (
        ("dp_size", 1),
        ("batch_num_tokens", int(whole.sum())),
        ("global_batch_size", len(whole)),
    ):
        data.set_non_tensor(name, value)
    return ppo_loss(config, {"log_probs": torch.cat(flat)}, data)


def assert_same_loss(loss: Tensor, objective: Tensor, terms: TokenTerms, mode: str) -> None:
    aggregation = AGGREGATIONS[mode]
    length = terms.loss_mask.shape[1] if aggregation is Aggregation.CONSTANT else None
    rows = torch.arange(len(terms.loss_mask))
    weights = token_weights(terms.loss_mask, rows, aggregation, constant_length=length).double()
    ours = aggregate(objective, weights)
    (expected,) = torch.autograd.grad(ours, terms.logprobs, retain_graph=True)
    (gradient,) = torch.autograd.grad(loss, terms.logprobs)
    # verl counts rows in float32.
    assert_close(loss, ours, 16, torch.float32)
    assert_close(gradient, expected, 16, torch.float32)
    assert gradient.any()
