"""Group-based policy gradient: sampling, advantages, and objectives."""

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from steadyrl.algorithms.protocol import Experience, MiniBatch
from steadyrl.algorithms.settings import AlgorithmContext, AlgorithmSettings
from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.engines.protocol import Engine, Sampling
from steadyrl.environments.protocol import Environment, Split
from steadyrl.environments.settings import EnvironmentSettings
from steadyrl.learners.loss_term import LossTerm
from steadyrl.objectives import (
    Aggregation,
    MiniRL,
    NoCorrection,
    Objective,
    ReferenceKL,
    group_mean,
    group_mean_std,
    leave_one_out,
)
from steadyrl.objectives.built_in import AnyObjective
from steadyrl.objectives.corrections import AnyCorrection
from steadyrl.policies.tokenizers import padding_id
from steadyrl.records.token_batch import TokenBatch
from steadyrl.records.trajectory import Group, mean_reward_parts
from steadyrl.rollout.batching import token_batch
from steadyrl.rollout.episodes import play_groups
from steadyrl.rollout.seeds import derive_seed
from steadyrl.rollout.tasks import shuffled_tasks

ADVANTAGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "group_mean": group_mean,
    "group_mean_std": group_mean_std,
    "leave_one_out": leave_one_out,
}


class CreditSettings(AlgorithmSettings):
    """Sampling per optimizer step, advantages, and aggregation of the loss."""

    objective: AnyObjective = MiniRL()
    """Objective to maximize for each token: a built-in or custom one."""

    correction: AnyCorrection = NoCorrection()
    """Correction of the training-inference mismatch, for objectives without one."""

    advantage: Literal["group_mean", "group_mean_std", "leave_one_out"] = "group_mean"
    """Baseline of each episode's reward within its group."""

    aggregation: Aggregation = Aggregation.TOKEN_SUM
    """Aggregation of tokens into one loss."""

    constant_length: int | None = Field(None, ge=1)
    """Denominator of the aggregation `constant`."""

    prompts: int = Field(64, ge=1)
    """Prompts per mini-batch, that is per optimizer step."""

    group_size: int = Field(16, ge=1)
    """Episodes per prompt."""

    mini_batches: int = Field(1, ge=1)
    """Optimizer steps per rollout: 1 is on-policy, N > 1 off-policy."""

    max_turns: int = Field(32, ge=1)
    """Maximum number of turns per episode; longer episodes are truncated."""

    reference_kl: ReferenceKL = ReferenceKL()
    """Penalty on the divergence from the initial weights of the stage; none by default."""

    @model_validator(mode="after")
    def _check_combination(self) -> "CreditSettings":
        if self.group_size == 1 and not self.learns_from_groups_of_one:
            raise ValueError(
                f"group_size is 1, but the advantage {self.advantage!r} compares the episodes of a "
                "group, so every advantage would be zero. Set group_size to 2 or more."
            )
        if (self.constant_length is None) == (self.aggregation is Aggregation.CONSTANT):
            raise ValueError(
                f"aggregation is {self.aggregation.value!r} and constant_length is "
                f"{self.constant_length}. Set aggregation 'constant' and its length, or neither."
            )
        self.correction.apply_to(self.objective)  # refuses a second correction
        return self

    @property
    def corrected_objective(self) -> Objective:
        """The objective with its correction."""
        return self.correction.apply_to(self.objective)

    @property
    def learns_from_groups_of_one(self) -> bool:
        """Whether an episode without others in its group can have an advantage."""
        return False

    @property
    def gradient_steps(self) -> int:
        """One per mini-batch."""
        return self.mini_batches

    @property
    def needs_reference(self) -> bool:
        """Whether the loss uses the initial weights of the stage."""
        return self.reference_kl.is_on or self.objective.reads_reference

    @property
    def overlap_unsupported_reason(self) -> str | None:
        """Reason why older weights would not be corrected; None: they are."""
        if self.corrected_objective.corrects_mismatch:
            return None
        return (
            f"the objective {self.objective.name!r} does not read the ratio to the engine, whose "
            "weights are one rollout older then. Set algorithm.correction to 'truncation' or "
            "'masking', choose 'minirl' or a DPPO, or set engine.overlap to false."
        )

    def check_fits(self, environment: EnvironmentSettings) -> None:
        """Checks that no episode of `environment` is truncated."""
        environment.require_turns("algorithm.max_turns", self.max_turns)


class PolicyGradientSettings(CreditSettings):
    """Policy gradient on groups of episodes, each compared with the others of its group."""

    name: Literal["policy_gradient"] = "policy_gradient"

    def make(self, context: AlgorithmContext) -> "PolicyGradient":
        """The algorithm."""
        return PolicyGradient(
            self,
            environment=context.environment,
            tokenizer=context.tokenizer,
            sampling=context.sampling,
            seed=context.seed,
            progress=context.progress,
        )


class PolicyGradient:
    """Samples groups, computes advantages within each group, and maximizes an objective."""

    samples_from_engine = True

    def __init__(
        self,
        settings: CreditSettings,
        *,
        environment: Environment,
        tokenizer: PreTrainedTokenizerBase,
        sampling: Sampling,
        seed: int,
        progress: Progress = NO_PROGRESS,
    ) -> None:
        self._settings = settings
        self._progress = progress
        self._objective = settings.reference_kl.apply_to(settings.corrected_objective)
        self._environment = environment
        self._tokenizer = tokenizer
        self._sampling = sampling
        self._seed = seed

    async def collect(self, step: int, engine: Engine) -> Experience:
        """Groups of episodes on fresh training tasks, one token batch for each mini-batch."""
        settings = self._settings
        count = settings.prompts * settings.mini_batches
        first = step * count
        numbers = range(first, first + count)
        tasks = shuffled_tasks(self._environment, Split.TRAIN, numbers, seed=self._seed)
        groups = await play_groups(
            self._environment,
            engine,
            self._tokenizer,
            tasks,
            group_size=settings.group_size,
            sampling=self._sampling,
            seed=derive_seed(self._seed, step),
            max_turns=settings.max_turns,
            progress=self._progress,
        )
        chunks = [groups[i : i + settings.prompts] for i in range(0, count, settings.prompts)]
        comparable = [_comparable(chunk) for chunk in chunks]
        return Experience(
            mini_batches=tuple((self._credit(chunk),) for chunk in comparable if chunk),
            groups=tuple(groups),
            metrics=group_metrics(groups),
        )

    def loss_terms(self, mini_batch: MiniBatch) -> tuple[LossTerm, ...]:
        """The one term: minus the objective, and the penalty."""
        (batch,) = mini_batch
        return (
            LossTerm(
                batch=batch,
                objective=self._objective,
                aggregation=self._settings.aggregation,
                constant_length=self._settings.constant_length,
            ),
        )

    def _credit(self, groups: list[Group]) -> TokenBatch:
        rewards = torch.cat([group.rewards for group in groups])
        sizes = [len(group.trajectories) for group in groups]
        group_ids = torch.arange(len(groups)).repeat_interleave(torch.tensor(sizes))
        advantages = ADVANTAGES[self._settings.advantage](rewards, group_ids)
        pad = padding_id(self._tokenizer)
        return token_batch(groups, advantages.split(sizes), pad_token_id=pad)


def _comparable(groups: list[Group]) -> list[Group]:
    """The groups without episodes that were not played, as long as two of them are left."""
    played = [group.played for group in groups]
    return [group for group in played if len(group.trajectories) > 1]


def group_metrics(groups: list[Group], *, alone_counts: bool = False) -> dict[str, float]:
    """Reward, lengths, failures, and the share of groups without signal.

    Rewards are those of episodes whose environment did not fail; without any there is none.

    Args:
        alone_counts: The reward of an episode whose group has no other is its advantage.
    """
    episodes = [trajectory for group in groups for trajectory in group.trajectories]
    lengths = [sum(len(c.token_ids) for c in episode.completions) for episode in episodes]
    sound = [episode for episode in episodes if not episode.environment_failed]
    with_signal = sum(group.has_signal for group in _comparable(groups))
    if alone_counts:
        with_signal += sum(any(group.rewards) for group in groups if len(group.trajectories) == 1)
    return {
        **({"reward": sum(episode.reward for episode in sound) / len(sound)} if sound else {}),
        **mean_reward_parts(sound, "reward"),
        "environment_failed_fraction": (len(episodes) - len(sound)) / len(episodes),
        "response_length": sum(lengths) / len(lengths),
        "truncated_fraction": sum(episode.truncated for episode in episodes) / len(episodes),
        "no_signal_fraction": (len(groups) - with_signal) / len(groups),
    }
