"""Experiential RL on served answers: the first attempt was served, the rest is sampled here.

    thumb, number    served answer, reinforced by its reward less a leave-one-out baseline
    text             served answer --> reflection --> second attempt --> internalization
                     and the served answer is reinforced by `text_reward`

With a reward function, groups of answers to the prompt are sampled and scored in place of the
served answer, and second attempts are scored. Without one, the served rewards are all there is: a
second attempt has reward 1 if most of the second attempts at its prompt agree with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from steadyrl.algorithms.erl import ExperientialRL, ExperientialRollout
from steadyrl.algorithms.erl_episodes import ExperientialEpisode, episode_metrics, episode_notes
from steadyrl.algorithms.erl_rows import compute_advantages
from steadyrl.algorithms.protocol import Experience, Plan, Rollout
from steadyrl.base.errors import UserError
from steadyrl.base.named_object import named_object
from steadyrl.engines.protocol import Engine
from steadyrl.live.answers import (
    RewardFunction,
    SessionPrompts,
    advantages,
    agreement,
    as_trajectory,
    task_of,
)
from steadyrl.live.records import Example
from steadyrl.live.settings import LiveConfig
from steadyrl.policies.tokenizers import padding_id
from steadyrl.records.trajectory import Group, Trajectory
from steadyrl.rollout.batching import token_batch
from steadyrl.rollout.seeds import derive_seed

RESAMPLED = 3
"""Purpose of random numbers, beside those of `erl`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRollout(ExperientialRollout):
    """Reflections and second attempts, and the answers that are reinforced."""

    reinforced: tuple[Group, ...] = ()
    credit: tuple[Float[Tensor, " _G"], ...] = ()
    """Advantages of each group of `reinforced`."""


class LiveLearning(ExperientialRL):
    """Learns from examples of the store, which a plan has as the payloads of its tasks.

    Args:
        earlier: Rewards of earlier generations by prompt.
    """

    def __init__(
        self, config: LiveConfig, *, tokenizer: PreTrainedTokenizerBase, seed: int
    ) -> None:
        self._live = config
        self._score = _reward_function(config)
        self.earlier: Mapping[str, Sequence[float]] = {}
        super().__init__(
            config.algorithm,
            environment=SessionPrompts(self._score),
            tokenizer=tokenizer,
            sampling=config.run.sampling,
            seed=seed,
        )

    def plan(self, step: int) -> Plan:
        """Never called: `plan_of` makes plans from examples."""
        raise AssertionError("a live step is planned from examples")

    def plan_of(self, step: int, examples: Sequence[Example]) -> Plan:
        """The plan of a step that learns from `examples`."""
        seed = derive_seed(self._seed, step)
        return Plan(step=step, tasks=tuple(map(task_of, examples)), seed=seed)

    async def play(self, plan: Plan, engine: Engine) -> LiveRollout:
        """Samples what the examples of a plan lack."""
        examples: list[Example] = [task.payload for task in plan.tasks]
        groups, credit = await self._reinforced(plan, examples, engine)
        texts = [task for task in plan.tasks if task.payload.text] if self._live.texts else []
        reflected = ExperientialRollout(episodes=())
        if texts:
            reflected = await super().play(replace(plan, tasks=tuple(texts)), engine)
        return LiveRollout(
            groups=(*groups, *reflected.groups),
            episodes=reflected.episodes,
            memory_writes=reflected.memory_writes,
            reinforced=tuple(groups),
            credit=tuple(credit),
        )

    def learn(self, rollout: Rollout) -> Experience:
        """One mini-batch: reinforced answers, reflections, second attempts, internalization."""
        assert isinstance(rollout, LiveRollout)
        pad = padding_id(self._tokenizer)
        batches = []
        if rollout.reinforced:
            batches.append(token_batch(rollout.reinforced, rollout.credit, pad_token_id=pad))
        episodes = rollout.episodes
        for mini_batch in self._rows.mini_batches(episodes, first_attempts=False):
            batches += mini_batch
        internalized = self._internalizes * sum(episode.succeeds for episode in episodes)
        metrics = episode_metrics(episodes) if episodes else {}
        return Experience(
            mini_batches=(tuple(batches),) if batches else (),
            metrics={
                **metrics,
                "internalized_fraction": internalized / max(1, len(episodes)),
                "memory_writes": float(len(rollout.memory_writes)),
            },
            notes=episode_notes(episodes),
        )

    def reward_of(self, example: Example) -> float:
        """What the user gave, or the reward of a text."""
        return self._live.text_reward if example.reward is None else example.reward

    async def _reinforced(
        self, plan: Plan, examples: Sequence[Example], engine: Engine
    ) -> tuple[list[Group], list[Float[Tensor, " _G"]]]:
        """The answers to reinforce, and their advantages."""
        if self._score is not None:
            seed = derive_seed(self._seed, plan.step, RESAMPLED)
            played = await self._play(plan.tasks, engine, seed, self._settings.group_size)
            groups = [group.played for group in played]
            groups = [group for group in groups if len(group.trajectories) > 1]
            return groups, compute_advantages(groups, self._settings.advantage, "zero")
        rewards = [self.reward_of(example) for example in examples]
        credit = advantages(examples, rewards, self.earlier)
        kept = [
            (as_trajectory(example, reward), torch.tensor([value]))
            for example, reward, value in zip(examples, rewards, credit, strict=True)
            if example.completion is not None
        ]
        groups = [Group(task_id=one.task_id, trajectories=(one,)) for one, _ in kept]
        return groups, [value for _, value in kept]

    async def _attempt(self, plan: Plan, engine: Engine) -> list[ExperientialEpisode]:
        """Episodes whose first attempts were served: several for each, which reflect apart."""
        size = self._settings.group_size
        return [
            ExperientialEpisode(
                number=(plan.step * len(plan.tasks) + place) * size + copy,
                task_index=place,
                task=task,
                first_attempt=as_trajectory(task.payload, self.reward_of(task.payload)),
                reflects=True,
            )
            for place, task in enumerate(plan.tasks)
            for copy in range(size)
        ]

    async def _attempt_second(
        self, episodes: Sequence[ExperientialEpisode], engine: Engine, seed: int
    ) -> None:
        """Adds second attempts, judged by their agreement if nothing scores them."""
        await super()._attempt_second(episodes, engine, seed)
        if self._score is not None:
            return
        by_task: dict[int, list[ExperientialEpisode]] = {}
        for episode in episodes:
            by_task.setdefault(episode.task_index, []).append(episode)
        for same in by_task.values():
            answers = [_answer(episode.second_attempt) for episode in same]
            rejected = same[0].first_attempt.messages[-1].content
            for episode, reward in zip(same, agreement(answers, rejected), strict=True):
                if episode.second_attempt is not None:
                    episode.second_attempt = replace(episode.second_attempt, reward=reward)


def _answer(attempt: Trajectory | None) -> str | None:
    """Text of a finished attempt."""
    if attempt is None or attempt.truncated:
        return None
    return attempt.messages[-1].content


def _reward_function(config: LiveConfig) -> RewardFunction | None:
    if config.reward is None:
        return None
    found: Any = named_object(config.reward, given_as="reward")
    if not callable(found):
        raise UserError(f"reward is {config.reward!r}, which is not a function. Name one.")
    score: RewardFunction = found
    return score
