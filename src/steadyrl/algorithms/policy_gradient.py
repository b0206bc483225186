"""Policy gradient on groups of episodes. The settings choose among the published variants."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from steadyrl.algorithms.protocol import Experience, MiniBatch, Plan, Rollout
from steadyrl.algorithms.settings import AlgorithmContext, AlgorithmSettings
from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.engines.protocol import Engine, Sampling
from steadyrl.environments.agents import RunsAgents
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
from steadyrl.objectives.built_in import AnyCorrection, AnyObjective
from steadyrl.objectives.objective_calls import try_objective
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
    """Rollout size of each optimizer step, its advantages and their aggregation."""

    objective: AnyObjective = MiniRL()
    """Objective that is maximized for each token: a built-in one, or one of your own."""

    correction: AnyCorrection = NoCorrection()
    """Correction of the training-inference discrepancy: truncation and masking for objectives that
    do not correct it, score_centering for these, too."""

    advantage: Literal["group_mean", "group_mean_std", "leave_one_out"] = "group_mean"
    """Advantage of a reward within its group."""

    aggregation: Aggregation = Aggregation.TOKEN_SUM
    """Aggregation of tokens into one loss."""

    constant_length: int | None = Field(None, ge=1)
    """Denominator of the aggregation `constant`."""

    prompts: int = Field(64, ge=1)
    """Number of prompts in a mini-batch, that is, in one optimizer step."""

    group_size: int = Field(16, ge=1)
    """Number of episodes for each prompt."""

    mini_batches: int = Field(1, ge=1)
    """Number of optimizer steps for each rollout: 1 is on-policy, N > 1 off-policy."""

    max_turns: int = Field(32, ge=1)
    """Maximum number of turns; longer episodes are truncated."""

    reference_kl: ReferenceKL = ReferenceKL()
    """KL penalty that keeps the policy close to the weights at the beginning of the stage. Off by
    default."""

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
        try_objective(self.objective)
        return self

    @property
    def corrected_objective(self) -> Objective:
        """The objective with its correction applied."""
        return self.correction.apply_to(self.objective)

    @property
    def learns_from_groups_of_one(self) -> bool:
        """Whether the only episode of a group can have a non-zero advantage."""
        return False

    @property
    def gradient_steps(self) -> int:
        """One per mini-batch."""
        return self.mini_batches

    @property
    def needs_reference(self) -> bool:
        """Whether the loss reads the weights at the beginning of the stage."""
        return self.reference_kl.is_on or self.objective.reads_reference

    @property
    def scores_routers(self) -> bool:
        """Whether the objective reads router shifts."""
        return self.objective.reads_router

    @property
    def reads_candidates(self) -> int:
        """Number of candidates that the objective or its correction reads."""
        return self.corrected_objective.reads_candidates

    @property
    def staleness_unsupported_reason(self) -> str | None:
        """Why the staleness of rollouts would remain uncorrected."""
        if self.corrected_objective.corrects_mismatch:
            return None
        return (
            f"the objective {self.objective.name!r} does not read the ratio to the engine, whose "
            "weights are older than the learner's then. Set algorithm.correction to 'truncation' "
            "or 'masking', or choose 'minirl' or a DPPO"
        )

    def check_fits(self, environment: EnvironmentSettings) -> None:
        """Checks that the turns of an episode of `environment` fit into `max_turns`."""
        environment.require_turns("algorithm.max_turns", self.max_turns)


class PolicyGradientSettings(CreditSettings):
    """Policy gradient on groups of episodes, each compared with the others in its group."""

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
    """Plays groups, credits each episode relative to its group, and maximizes an objective."""

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

    @property
    def plays_parts(self) -> bool:
        """Whether tasks are played independently: not if agent programs share a server."""
        return not isinstance(self._environment, RunsAgents)

    def plan(self, step: int) -> Plan:
        """Training tasks that no earlier step has played, for every mini-batch."""
        return plan_step(self._settings, self._environment, step, self._seed)

    async def play(self, plan: Plan, engine: Engine) -> Rollout:
        """A group of episodes for each task."""
        groups = await play_groups(
            self._environment,
            engine,
            self._tokenizer,
            plan.tasks,
            group_size=self._settings.group_size,
            sampling=self._sampling,
            seed=plan.seed,
            first=plan.first,
            max_turns=self._settings.max_turns,
            progress=NO_PROGRESS if plan.is_part else self._progress,
        )
        return Rollout(groups=tuple(groups))

    def learn(self, rollout: Rollout) -> Experience:
        """A token batch for each mini-batch of groups."""
        groups, size = rollout.groups, self._settings.prompts
        chunks = [groups[i : i + size] for i in range(0, len(groups), size)]
        comparable = [_comparable(chunk) for chunk in chunks]
        return Experience(
            mini_batches=tuple((self._credit(chunk),) for chunk in comparable if chunk),
            metrics=group_metrics(groups),
        )

    def loss_terms(self, mini_batch: MiniBatch) -> tuple[LossTerm, ...]:
        """A single term: the objective with its penalty."""
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


def plan_step(settings: CreditSettings, environment: Environment, step: int, seed: int) -> Plan:
    """The training tasks of step `step`: `prompts` for each mini-batch."""
    count = settings.prompts * settings.mini_batches
    numbers = range(step * count, (step + 1) * count)
    tasks = shuffled_tasks(environment, Split.TRAIN, numbers, seed=seed)
    return Plan(step=step, tasks=tuple(tasks), seed=derive_seed(seed, step))


def _comparable(groups: Sequence[Group]) -> list[Group]:
    """The groups with at least two playable episodes, without those that were not played."""
    played = [group.played for group in groups]
    return [group for group in played if len(group.trajectories) > 1]


def group_metrics(groups: Sequence[Group], *, alone_counts: bool = False) -> dict[str, float]:
    """Reward, lengths, failures, and the share of groups without signal.

    Rewards are averaged over episodes whose environment did not fail; without any, there is none.

    Args:
        alone_counts: Count the only episode of a group as signal if its reward is not 0.
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
