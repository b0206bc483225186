"""Experiential Reinforcement Learning (Shi et al., arXiv:2602.13949).

    task x --> first attempt y1, reward r1 --(r1 < threshold)--> reflection Δ on y1 and its feedback
           --> second attempt y2 given Δ, reward r2 --(r2 > 0)--> y2 is learned given x alone

First attempts, reflections and second attempts are reinforced, each given its own prompt: y1 by r1,
Δ and y2 by r2. A reflection that led to full reward is written to the memory, which later
reflections read. At inference the policy sees only x.

The memory belongs to `play`: a rollout reads what all rollouts of earlier steps have written, also
when it is sampled ahead of the updates on them, and none of what its own episodes write.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from transformers import PreTrainedTokenizerBase

from steadyrl.algorithms.erl_episodes import (
    ExperientialEpisode,
    episode_metrics,
    episode_notes,
    groups_with_records,
)
from steadyrl.algorithms.erl_internalization import NoInternalization
from steadyrl.algorithms.erl_rows import RowBuilder
from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.algorithms.memory import join_entries
from steadyrl.algorithms.policy_gradient import group_metrics, plan_step
from steadyrl.algorithms.protocol import Experience, MiniBatch, Plan, Rollout
from steadyrl.algorithms.reflection import FrozenReflector
from steadyrl.algorithms.reflection_prompts import (
    guided_task,
    make_record,
    reflection_prompt,
    task_with_record,
)
from steadyrl.base.concurrency import concurrently
from steadyrl.base.errors import UserError
from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.engines.protocol import Engine, Sampling
from steadyrl.environments.protocol import Environment, Task
from steadyrl.learners.loss_term import LossTerm
from steadyrl.objectives import Aggregation, Objective
from steadyrl.objectives.grouping import Grouping
from steadyrl.policies.tokenizers import neutralize
from steadyrl.records.memory_write import MemoryWrite
from steadyrl.records.token_batch import TokenBatch
from steadyrl.records.trajectory import Group, Trajectory
from steadyrl.records.truncation import ENVIRONMENT_FAILED
from steadyrl.records.weight_source import WeightSource
from steadyrl.rollout.episodes import play_groups
from steadyrl.rollout.prompts import encode_each
from steadyrl.rollout.seeds import derive_seed

REFLECTIONS, SECOND_ATTEMPTS = 1, 2
"""Purposes of random numbers, below the seed of a step. First attempts use the seed of the step, as
policy gradient does, so that both play the same tasks and, with the same weights, sample the same
attempts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperientialRollout(Rollout):
    """The groups of a step, and the episodes whose parts they are."""

    episodes: tuple[ExperientialEpisode, ...]


class ExperientialRL:
    """Attempts, reflects on failures, attempts again, and learns from all parts."""

    samples_from_engine = True

    def __init__(
        self,
        settings: ExperientialSettings,
        *,
        environment: Environment,
        tokenizer: PreTrainedTokenizerBase,
        sampling: Sampling,
        seed: int,
        make_engine: Callable[[], Engine] | None = None,
        progress: Progress = NO_PROGRESS,
    ) -> None:
        self._progress = progress
        self._settings = settings
        self._environment = environment
        self._tokenizer = tokenizer
        self._sampling = sampling
        self._seed = seed
        self._neutral = partial(neutralize, tokenizer=tokenizer)
        self._memory = settings.memory.make()
        self._reflector = settings.reflection.make(tokenizer, make_engine)
        self._rows = RowBuilder(settings, tokenizer)
        self._objective = settings.corrected_objective
        self._internalizes = not isinstance(settings.internalization, NoInternalization)

    def plan(self, step: int) -> Plan:
        """Training tasks that no earlier step has played, for every mini-batch."""
        return plan_step(self._settings, self._environment, step, self._seed)

    async def play(self, plan: Plan, engine: Engine) -> ExperientialRollout:
        """Episodes with their first attempts, reflections and second attempts."""
        reflecting, retrying = (
            derive_seed(self._seed, plan.step, purpose)
            for purpose in (REFLECTIONS, SECOND_ATTEMPTS)
        )
        episodes = await self._attempt(plan, engine)
        await self._reflect(episodes, engine, reflecting)
        await self._attempt_second(episodes, engine, retrying)
        writes = self._write_memory(episodes)
        for episode in episodes:
            episode.drop_payloads()
        return ExperientialRollout(
            groups=tuple(groups_with_records(episodes, internalizes=self._internalizes)),
            episodes=tuple(episodes),
            memory_writes=tuple(writes),
        )

    def learn(self, rollout: Rollout) -> Experience:
        """For each mini-batch, a token batch for each part of its episodes."""
        assert isinstance(rollout, ExperientialRollout)
        settings, episodes = self._settings, rollout.episodes
        chunks = [
            [e for e in episodes if e.task_index // settings.prompts == number]
            for number in range(settings.mini_batches)
        ]
        internalized = self._internalizes * sum(episode.succeeds for episode in episodes)
        return Experience(
            mini_batches=tuple(b for chunk in chunks for b in self._rows.mini_batches(chunk)),
            metrics={
                **group_metrics(
                    rollout.groups[: settings.prompts * settings.mini_batches],
                    alone_counts=settings.learns_from_groups_of_one,
                ),
                **episode_metrics(episodes),
                "internalized_fraction": internalized / len(episodes),
                "memory_writes": float(len(rollout.memory_writes)),
            },
            notes=episode_notes(episodes),
        )

    def loss_terms(self, mini_batch: MiniBatch) -> tuple[LossTerm, ...]:
        """The policy's objective on rows with their own prompts, and internalization.

        Terms are weighted as if all rows were in one batch, apart from the coefficient of
        internalization.
        """
        sizes = [_size(batch, self._settings.aggregation) for batch in mini_batch]
        return tuple(
            self._term(batch, size / max(1, sum(sizes)))
            for batch, size in zip(mini_batch, sizes, strict=True)
        )

    async def take_reference(self, reference: WeightSource) -> None:
        """Uses `reference` for reflections, if the settings say so."""
        if isinstance(self._reflector, FrozenReflector):
            await self._reflector.freeze(reference)

    def state(self) -> Any:
        """The state of the memory."""
        return self._memory.state()

    def load_state(self, state: Any) -> None:
        """Restores the memory."""
        self._memory.load_state(state)

    async def _attempt(self, plan: Plan, engine: Engine) -> list[ExperientialEpisode]:
        """Episodes with their first attempts."""
        groups = await self._play(plan.tasks, engine, plan.seed, self._settings.group_size)
        first = [(place, t) for place, group in enumerate(groups) for t in group.trajectories]
        return [
            ExperientialEpisode(
                number=plan.step * len(first) + number,
                task_index=place,
                task=plan.tasks[place],
                first_attempt=attempt,
                reflects=self._reflects_on(attempt),
                failure=attempt.truncation_reason if attempt.environment_failed else "",
            )
            for number, (place, attempt) in enumerate(first)
        ]

    def _reflects_on(self, attempt: Trajectory) -> bool:
        failed = attempt.reward < self._settings.threshold
        return attempt.was_played and (failed or not self._settings.gate)

    async def _reflect(
        self, episodes: Sequence[ExperientialEpisode], engine: Engine, seed: int
    ) -> None:
        """Adds reflections and guided tasks to the episodes, or the reasons for failures."""
        style = self._settings.reflection.style
        chosen = [episode for episode in episodes if episode.reflects]
        for episode in chosen:
            episode.recalled = self._memory.recall(episode.task, episode.number)
        records = [
            make_record(e.task, e.first_attempt, join_entries(e.recalled), self._neutral)
            for e in chosen
        ]
        if self._reflector is None:
            for episode, record in zip(chosen, records, strict=True):
                episode.guided_task = task_with_record(episode.task, record, style)
            return
        prompts = [reflection_prompt(record, style) for record in records]
        reflections = await concurrently(
            self._reflector.reflect(prompt, engine, derive_seed(seed, number))
            for number, prompt in enumerate(prompts)
        )
        for episode, reflection in zip(chosen, reflections, strict=True):
            episode.reflection = reflection
            episode.failure = reflection.failure
            if not reflection.failure:
                lesson = self._neutral(reflection.lesson)
                try:
                    episode.guided_task = guided_task(self._environment, episode.task, lesson)
                except UserError as error:
                    episode.failure = f"{ENVIRONMENT_FAILED}: {error}"

    async def _attempt_second(
        self, episodes: Sequence[ExperientialEpisode], engine: Engine, seed: int
    ) -> None:
        """Adds second attempts to the episodes, or the reasons for failures."""
        guided = [(e, e.guided_task) for e in episodes if e.guided_task is not None]
        tasks = [task for _, task in guided]
        prompts = encode_each(
            self._tokenizer, [task.prompt for task in tasks], [task.tools for task in tasks]
        )
        asked: list[tuple[ExperientialEpisode, Task]] = []
        for (episode, task), prompt in zip(guided, prompts, strict=True):
            if isinstance(prompt, UserError):
                episode.failure = f"{ENVIRONMENT_FAILED}: {prompt}"
            elif engine.capabilities.has_room(len(prompt), self._sampling):
                asked.append((episode, task))
            else:
                episode.failure = f"guidance of {len(prompt)} tokens leaves no room to answer"
        groups = await self._play([task for _, task in asked], engine, seed, 1)
        for (episode, _), group in zip(asked, groups, strict=True):
            (attempt,) = group.trajectories
            episode.second_attempt = attempt
            episode.failure = attempt.truncation_reason if attempt.environment_failed else ""

    def _write_memory(self, episodes: Sequence[ExperientialEpisode]) -> list[MemoryWrite]:
        """Writes the reflections that led to full reward to the memory."""
        for episode in episodes:
            reward, reflection = episode.second_reward, episode.reflection
            if reflection and reward is not None and reward >= self._settings.threshold:
                lesson = reflection.lesson
                episode.memory_write = self._memory.write(episode.task, episode.number, lesson)
        return [episode.memory_write for episode in episodes if episode.memory_write is not None]

    async def _play(
        self, tasks: Sequence[Task], engine: Engine, seed: int, group_size: int
    ) -> list[Group]:
        return await play_groups(
            self._environment,
            engine,
            self._tokenizer,
            tasks,
            group_size=group_size,
            sampling=self._sampling,
            seed=seed,
            max_turns=self._settings.max_turns,
            progress=self._progress,
        )

    def _term(self, batch: TokenBatch, share: float) -> LossTerm:
        settings, reinforced = self._settings, batch.is_measured
        coefficient = 1.0 if reinforced else settings.internalization_coefficient
        objective = self._objective if reinforced else settings.internalization
        assert isinstance(objective, Objective), "nothing is internalized, yet there are rows"
        if batch.teacher is None:
            objective = settings.reference_kl.apply_to(objective, scale=coefficient)
        return LossTerm(
            batch=batch,
            objective=objective,
            aggregation=settings.aggregation,
            constant_length=settings.constant_length,
            scale=coefficient * share,
        )


def _size(batch: TokenBatch, aggregation: Aggregation) -> int:
    """Denominator of the aggregation: the number of tokens, groups or responses."""
    match aggregation:
        case Aggregation.TOKEN_MEAN:
            return int(batch.loss_mask.sum())
        case Aggregation.GROUP_TOKEN_MEAN:
            return len(Grouping.by(batch.group_ids).ids)
        case _:
            return batch.responses
