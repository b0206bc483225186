"""Conversion of episode parts to token rows with prompts and advantages.

    part              prompt of the row     tokens        advantage
    first attempt     x                     y1            r1 relative to its group
    reflection        x, y1, f1, r1, m      Δ             r2 relative to its group; 0 if malformed
    second attempt    x, Δ                  y2            r2 relative to its group
    internalization   x                     y2            1, or r2; only attempts with r2 > 0
    distillation      x                     y1            1; the prompt of its teacher is x, Δ

A group holds the trajectories of one task in one part.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from steadyrl.algorithms.erl_episodes import ExperientialEpisode, group_by_task
from steadyrl.algorithms.erl_internalization import (
    NoInternalization,
    OnPolicyDistillation,
    RewardWeightedInternalization,
)
from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.algorithms.policy_gradient import ADVANTAGES
from steadyrl.algorithms.protocol import MiniBatch
from steadyrl.algorithms.reflection import PolicyReflection
from steadyrl.environments.protocol import Task
from steadyrl.objectives.grouping import Grouping
from steadyrl.policies.tokenizers import encode_prompts, padding_id
from steadyrl.records.token_batch import TokenBatch
from steadyrl.records.trajectory import Group, Trajectory
from steadyrl.rollout.batching import token_batch


class RowBuilder:
    """Builds the token batches of each part."""

    def __init__(self, settings: ExperientialSettings, tokenizer: PreTrainedTokenizerBase) -> None:
        self._settings = settings
        self._tokenizer = tokenizer

    def mini_batches(
        self, episodes: Sequence[ExperientialEpisode], *, first_attempts: bool = True
    ) -> tuple[MiniBatch, ...]:
        """Non-empty batches of all parts of `episodes`.

        One mini-batch, or up to three under sequential updates.

        Args:
            first_attempts: False: they were not sampled for these episodes, so they are left out.
        """
        first = self._first(episodes) if first_attempts else []
        reflected = [*self._reflections(episodes), *self._second(episodes)]
        parts = [first, reflected, self._internalization(episodes)]
        if self._settings.updates == "mixed":
            parts = [[batch for part in parts for batch in part]]
        return tuple(tuple(part) for part in parts if part)

    def _first(self, episodes: Sequence[ExperientialEpisode]) -> list[TokenBatch]:
        used = [episode for episode in episodes if episode.first_attempt.was_played]
        groups = group_by_task(used, "", lambda e: e.first_attempt)
        if self._settings.group_size > 1:  # one that is left alone has nothing to be compared with
            groups = [group for group in groups if len(group.trajectories) > 1]
        return self._reinforced_batches(groups)

    def _reflections(self, episodes: Sequence[ExperientialEpisode]) -> list[TokenBatch]:
        reflection = self._settings.reflection
        if not isinstance(reflection, PolicyReflection):
            return []
        malformed_too = reflection.malformed == "zero_reward"
        used = [
            episode
            for episode in episodes
            if episode.second_reward is not None
            or (malformed_too and episode.reflection and episode.reflection.is_malformed)
        ]
        batches = self._reinforced_batches(
            group_by_task(used, "", lambda e: e.reflection_trajectory)
        )
        temperature = reflection.sampling.temperature
        return [replace(batch, temperature=temperature) for batch in batches]

    def _second(self, episodes: Sequence[ExperientialEpisode]) -> list[TokenBatch]:
        used = [episode for episode in episodes if episode.second_reward is not None]
        return self._reinforced_batches(group_by_task(used, "", lambda e: e.second_attempt))

    def _internalization(self, episodes: Sequence[ExperientialEpisode]) -> list[TokenBatch]:
        kind = self._settings.internalization
        succeeded = [episode for episode in episodes if episode.succeeds]
        if isinstance(kind, NoInternalization) or not succeeded:
            return []
        if isinstance(kind, OnPolicyDistillation):
            return self._distillation(succeeded)
        groups = group_by_task(succeeded, "", self._second_without_reflection)
        weighted = isinstance(kind, RewardWeightedInternalization)
        weights = [g.rewards if weighted else torch.ones_like(g.rewards) for g in groups]
        batches = self._batches(groups, weights)
        # What could be drawn under the other prompt does not limit what is learned under this one.
        return [replace(b, reprompted=True, support=None, candidates=None) for b in batches]

    def _distillation(self, episodes: Sequence[ExperientialEpisode]) -> list[TokenBatch]:
        students = group_by_task(episodes, "", lambda e: e.first_attempt)
        teachers = group_by_task(episodes, "", self._first_with_reflection)
        weights = [torch.ones_like(group.rewards) for group in students]
        (student,), (teacher,) = self._batches(students, weights), self._batches(teachers, weights)
        if not torch.equal(student.loss_mask.sum(dim=1), teacher.loss_mask.sum(dim=1)):
            raise RuntimeError(
                "An attempt is split into different rows under its teacher's prompt than under "
                "its own, so student and teacher cannot be compared token by token."
            )
        student, teacher = (replace(each, candidates=None) for each in (student, teacher))
        return [replace(student, teacher=replace(teacher, reprompted=True))]

    def _second_without_reflection(self, episode: ExperientialEpisode) -> Trajectory:
        assert episode.second_attempt is not None
        assert episode.guided_task is not None
        return self._reprompted(episode.second_attempt, episode.guided_task, episode.task)

    def _first_with_reflection(self, episode: ExperientialEpisode) -> Trajectory:
        assert episode.guided_task is not None
        return self._reprompted(episode.first_attempt, episode.task, episode.guided_task)

    def _reprompted(self, trajectory: Trajectory, asked: Task, instead: Task) -> Trajectory:
        """The turns sampled under the prompt of `asked`, with the prompt of `instead`."""
        turns = [n for n, message in enumerate(trajectory.messages) if message.role == "assistant"]
        turns = [n for n in turns if n >= len(asked.prompt)]
        before = [
            (*instead.prompt, *trajectory.messages[len(asked.prompt) : turn]) for turn in turns
        ]
        prompts = encode_prompts(self._tokenizer, before, [instead.tools] * len(before))
        completions = [
            replace(completion, prompt_ids=prompt, routing=None)
            for completion, prompt in zip(trajectory.completions, prompts, strict=True)
        ]
        return replace(trajectory, completions=tuple(completions))

    def _reinforced_batches(self, groups: Sequence[Group]) -> list[TokenBatch]:
        settings = self._settings
        return self._batches(
            groups, compute_advantages(groups, settings.advantage, settings.group_of_one)
        )

    def _batches(
        self, groups: Sequence[Group], advantages: Sequence[Float[Tensor, " _G"]]
    ) -> list[TokenBatch]:
        """The rows as one batch; no batch without rows."""
        if not groups:
            return []
        return [token_batch(groups, advantages, pad_token_id=padding_id(self._tokenizer))]


def compute_advantages(
    groups: Sequence[Group], advantage: str, group_of_one: str
) -> list[Float[Tensor, " _G"]]:
    """Advantages of the trajectories, by group.

    The advantage in a group of one is its reward, or 0 if `group_of_one` is "zero".
    """
    if not groups:
        return []
    sizes = [len(group.trajectories) for group in groups]
    rewards = torch.cat([group.rewards for group in groups])
    ids = torch.arange(len(groups)).repeat_interleave(torch.tensor(sizes))
    alone = Grouping.by(ids).sizes == 1
    advantages = torch.zeros_like(rewards) if group_of_one == "zero" else rewards.clone()
    if not bool(alone.all()):
        advantages[~alone] = ADVANTAGES[advantage](rewards[~alone], ids[~alone])
    return list(advantages.split(sizes))
