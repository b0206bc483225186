"""Policy gradient on groups of episodes: MiniRL, GRPO, CISPO and REINFORCE by their settings."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from steadyrl.algorithms.protocol import Experience, LossTerm, Objective
from steadyrl.engines.protocol import RolloutEngine, Sampling
from steadyrl.environments.protocol import Environment, Split
from steadyrl.objectives import (
    Aggregation,
    cispo,
    group_mean,
    group_mean_std,
    grpo,
    leave_one_out,
    minirl,
    reinforce,
)
from steadyrl.records.settings import Settings
from steadyrl.records.token_batch import TokenBatch
from steadyrl.records.trajectory import Group
from steadyrl.rollout.batching import token_batch
from steadyrl.rollout.episodes import play_groups
from steadyrl.rollout.seeds import derive_seed


class MiniRL(Settings):
    """arXiv:2512.01374, equation 7."""

    name: Literal["minirl"] = "minirl"

    clip_low: float = Field(0.2, gt=0)
    """Tokens with A < 0 stop at a ratio below 1 - clip_low. `.inf` switches it off."""

    clip_high: float = Field(0.27, gt=0)
    """Tokens with A > 0 stop at a ratio above 1 + clip_high. `.inf` switches it off."""

    weight_cap: float = Field(5.0, gt=0)
    """Upper bound of the weight pi_theta / mu_old. `.inf` switches it off."""

    correct_mismatch: bool = True
    """False: the ablation without train-inference importance sampling."""


class GRPO(Settings):
    """arXiv:2402.03300, as written in arXiv:2512.01374, appendix A."""

    name: Literal["grpo"] = "grpo"
    clip_low: float = Field(0.2, gt=0)
    clip_high: float = Field(0.27, gt=0)


class CISPO(Settings):
    """arXiv:2506.13585, as written in arXiv:2512.01374, appendix A."""

    name: Literal["cispo"] = "cispo"
    clip_low: float = Field(0.2, gt=0)
    clip_high: float = Field(0.27, gt=0)


class Reinforce(Settings):
    """A log pi, without any correction."""

    name: Literal["reinforce"] = "reinforce"


ObjectiveSettings = Annotated[MiniRL | GRPO | CISPO | Reinforce, Field(discriminator="name")]

OBJECTIVES: dict[str, Callable[..., Tensor]] = {
    "minirl": minirl,
    "grpo": grpo,
    "cispo": cispo,
    "reinforce": reinforce,
}
ADVANTAGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "group_mean": group_mean,
    "group_mean_std": group_mean_std,
    "leave_one_out": leave_one_out,
}


class PolicyGradientSettings(Settings):
    """What to sample for each optimiser step, and how to credit and sum it."""

    objective: ObjectiveSettings = MiniRL()

    advantage: Literal["group_mean", "group_mean_std", "leave_one_out"] = "group_mean"
    """Baseline of each episode's reward within its group."""

    aggregation: Aggregation = Aggregation.TOKEN_SUM
    """How tokens are summed into one loss."""

    constant_length: int | None = Field(None, ge=1)
    """Denominator of the aggregation `constant`."""

    prompts: int = Field(64, ge=1)
    """Prompts in one mini-batch, that is for one optimiser step."""

    group_size: int = Field(16, ge=1)
    """Episodes for each prompt."""

    mini_batches: int = Field(1, ge=1)
    """Optimiser steps for each rollout: 1 is on-policy, N > 1 off-policy."""

    max_turns: int = Field(32, ge=1)
    """Turns after which an episode is cut short."""

    @model_validator(mode="after")
    def _groups_can_be_compared(self) -> "PolicyGradientSettings":
        if self.group_size == 1:
            raise ValueError(
                f"group_size is 1, but the advantage {self.advantage!r} compares the episodes of a "
                "group, so every advantage would be zero. Set group_size to 2 or more."
            )
        if (self.constant_length is None) == (self.aggregation is Aggregation.CONSTANT):
            raise ValueError(
                f"aggregation is {self.aggregation.value!r} and constant_length is "
                f"{self.constant_length}. Set aggregation 'constant' and its length, or neither."
            )
        return self


def make_objective(settings: ObjectiveSettings) -> Objective:
    """The objective as a function of token terms alone."""
    options = settings.model_dump(exclude={"name"})
    return partial(OBJECTIVES[settings.name], **options)


class PolicyGradient:
    """Samples groups, credits each episode against its group, and maximises an objective."""

    samples_from_engine = True

    def __init__(
        self,
        settings: PolicyGradientSettings,
        *,
        environment: Environment,
        tokenizer: PreTrainedTokenizerBase,
        sampling: Sampling,
        seed: int,
    ) -> None:
        self._settings = settings
        self._objective = make_objective(settings.objective)
        self._environment = environment
        self._tokenizer = tokenizer
        self._sampling = sampling
        self._seed = seed

    def collect(self, step: int, engine: RolloutEngine) -> Experience:
        """Groups of episodes on fresh training tasks, one token batch for each mini-batch."""
        settings = self._settings
        count = settings.prompts * settings.mini_batches
        first = step * count
        tasks = [self._environment.task(Split.TRAIN, first + i) for i in range(count)]
        groups = play_groups(
            self._environment,
            engine,
            self._tokenizer,
            tasks,
            group_size=settings.group_size,
            sampling=self._sampling,
            seed=derive_seed(self._seed, step),
            max_turns=settings.max_turns,
        )
        chunks = [groups[i : i + settings.prompts] for i in range(0, count, settings.prompts)]
        return Experience(
            mini_batches=tuple(self._credit(chunk) for chunk in chunks),
            groups=tuple(groups),
            metrics=group_metrics(groups),
        )

    def loss_terms(self, mini_batch: TokenBatch) -> tuple[LossTerm, ...]:
        """The one term: minus the objective."""
        return (
            LossTerm(
                batch=mini_batch,
                objective=self._objective,
                aggregation=self._settings.aggregation,
                constant_length=self._settings.constant_length,
                proportional_to_advantage=True,
            ),
        )

    def _credit(self, groups: list[Group]) -> TokenBatch:
        rewards = torch.cat([group.rewards for group in groups])
        sizes = [len(group.trajectories) for group in groups]
        group_ids = torch.arange(len(groups)).repeat_interleave(torch.tensor(sizes))
        advantages = ADVANTAGES[self._settings.advantage](rewards, group_ids)
        pad = self._tokenizer.pad_token_id
        pad = self._tokenizer.eos_token_id if pad is None else pad
        return token_batch(groups, advantages.split(sizes), pad_token_id=pad)


def group_metrics(groups: list[Group]) -> dict[str, float]:
    """Reward, lengths and the share of groups without signal."""
    episodes = [trajectory for group in groups for trajectory in group.trajectories]
    lengths = [sum(len(c.token_ids) for c in episode.completions) for episode in episodes]
    return {
        "reward": sum(episode.reward for episode in episodes) / len(episodes),
        "response_length": sum(lengths) / len(lengths),
        "truncated_fraction": sum(episode.truncated for episode in episodes) / len(episodes),
        "no_signal_fraction": sum(not group.has_signal for group in groups) / len(groups),
    }
