"""Environment of prompts and correct answers from a custom dataset."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from math import fsum
from typing import TYPE_CHECKING, Any

from steadyrl.base.concurrency import await_if_needed, concurrently
from steadyrl.base.errors import UserError
from steadyrl.environments.answer_formats import AnswerFormat, extract_answer, write_answer
from steadyrl.environments.dataset.examples import Example, RowReader
from steadyrl.environments.dataset.loading import RowLocation
from steadyrl.environments.dataset.rewards import Attempt, Reward, RewardResult
from steadyrl.environments.protocol import Episode, Outcome, Split, Task
from steadyrl.environments.thinking import strip_thinking

if TYPE_CHECKING:
    from steadyrl.records.trajectory import Group, Trajectory
else:  # they have tensors, and environments load without PyTorch
    Group = Trajectory = Any

_PREFIX = "dataset/"
_NONE_APPLIES = "no reward applies to the response: each returned None"


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedReward:
    """A reward and its weight in the sum.

    Example:
        WeightedReward(reward=ExactReward().make(AnswerFormat.WHOLE), weight=1.0)
    """

    reward: Reward
    weight: float


class Dataset:
    """Reward: the weighted sum of the rewards that apply. One turn.

    A response to which no reward applies fails. A split starts over after its last example.

    Args:
        name: Name of the dataset, for messages.
        locations: Locations of the examples of each split.
        rewards: Rewards by the names of their metrics. The environment closes them.
        answer_format: Format in which responses state their answers.
        notes: Notes on rows that were dropped.
    """

    def __init__(
        self,
        name: str,
        *,
        reader: RowReader,
        locations: Mapping[Split, Sequence[RowLocation]],
        rewards: Mapping[str, WeightedReward],
        answer_format: AnswerFormat,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.notes = notes
        self._reader = reader
        self._locations = locations
        self._weights = {title: each.weight for title, each in rewards.items()}
        self._rewards = {title: each.reward for title, each in rewards.items()}
        self._answer_format = answer_format

    def task(self, split: Split, index: int) -> Task:
        """Example number `index` of `split`.

        Raises:
            UserError: the dataset has no examples in this split.
        """
        locations = self._locations[split]
        if not locations:
            raise UserError(
                f"{self.name} has no rows in the {split} split. Add rows, or name another split "
                "in environment.splits."
            )
        example = self._example(locations[index % len(locations)])
        return Task(id=f"{_PREFIX}{example.id}", prompt=example.prompt, payload=example)

    def distinct_tasks(self, split: Split) -> int:
        """Number of examples in `split`."""
        return len(self._locations[split])

    def start(self, task: Task) -> Episode:
        """Starts an attempt at the example of `task`."""
        return _OneResponse(partial(self._respond, task.payload))

    def solution(self, task: Task) -> tuple[str, ...]:
        """The right answer of the data set.

        Raises:
            UserError: the example has none.
        """
        answer = task.payload.gold
        if answer is None:
            raise UserError(
                f"{self.name} has no answer to {task.id}. Name its column in environment.columns."
            )
        return (write_answer(answer, self._answer_format),)

    def try_rewards(self, titles: Sequence[str]) -> None:
        """Applies these rewards to two copies of the first example's correct answer, if it has one.

        Raises:
            UserError: a reward fails.
        """
        example = self._example(self._locations[Split.TRAIN][0])
        attempt = self._attempt(example, example.gold or "nothing")
        _run(_judge_all({title: self._rewards[title] for title in titles}, [attempt, attempt]))

    def close(self) -> None:
        """Closes worker processes and connections of the rewards."""
        for reward in self._rewards.values():
            reward.close()

    def _example(self, location: RowLocation) -> Example:
        return self._reader.example(location.table.rows[location.row], location.id)

    def _attempt(self, example: Example, text: str, token_ids: Sequence[int] = ()) -> Attempt:
        answer = extract_answer(strip_thinking(text), self._answer_format) or None
        return Attempt(example=example, text=text, answer=answer, token_ids=tuple(token_ids))

    async def _respond(self, example: Example, text: str) -> Outcome:
        alone = {name: reward for name, reward in self._rewards.items() if not reward.compares}
        results = await _judge_all(alone, [self._attempt(example, text)])
        results_by_name = {name: result for name, (result,) in results.items()}
        parts = {
            name: result.value
            for name, result in results_by_name.items()
            if result.value is not None
        }
        if not parts and len(alone) == len(self._rewards):
            raise UserError(_NONE_APPLIES)
        return Outcome(
            reward=self._sum(parts),
            reward_parts=parts,
            terminated=True,
            feedback=_feedback(results_by_name, several=len(self._rewards) > 1),
        )

    def _sum(self, parts: Mapping[str, float]) -> float:
        return fsum(self._weights[name] * part for name, part in parts.items())


class ComparingDataset(Dataset):
    """A dataset with rewards that compare the responses to a prompt."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self._by_id = {
            location.id: location
            for locations in self._locations.values()
            for location in locations
        }

    async def score_group(self, group: Group) -> list[Outcome | None]:
        """Outcomes of the trajectories in `group` including comparing rewards; None excludes one.

        Truncated responses keep their rewards and are not compared.
        """
        results: list[dict[str, RewardResult]] = [{} for _ in group.trajectories]
        over = [number for number, t in enumerate(group.trajectories) if t.terminated]
        comparing = {name: reward for name, reward in self._rewards.items() if reward.compares}
        if over:
            example = self._example(self._by_id[group.task_id.removeprefix(_PREFIX)])
            attempts = [self._attempt_of(example, group.trajectories[number]) for number in over]
            for name, given in (await _judge_all(comparing, attempts)).items():
                for number, result in zip(over, given, strict=True):
                    results[number][name] = result
        return [
            self._with(trajectory, compared)
            for trajectory, compared in zip(group.trajectories, results, strict=True)
        ]

    def _attempt_of(self, example: Example, trajectory: Trajectory) -> Attempt:
        ids = trajectory.completions[-1].token_ids.tolist()
        return self._attempt(example, trajectory.messages[-1].content, ids)

    def _with(self, trajectory: Trajectory, compared: Mapping[str, RewardResult]) -> Outcome | None:
        applied = {
            name: result.value for name, result in compared.items() if result.value is not None
        }
        parts = {**trajectory.reward_parts, **applied}
        if trajectory.terminated and not parts:
            return None
        return Outcome(reward=self._sum(parts), reward_parts=parts, terminated=True)


class _OneResponse:
    """Attempt of one response."""

    def __init__(self, judge: Callable[[str], Awaitable[Outcome]]) -> None:
        self._judge = judge

    async def respond(self, text: str) -> Outcome:
        """Outcome of the rewards that judge the response alone."""
        return await self._judge(text)


async def _judge_all(
    rewards: Mapping[str, Reward], attempts: Sequence[Attempt]
) -> dict[str, list[RewardResult]]:
    """Results of each reward, computed concurrently."""
    given = await concurrently(
        await_if_needed(reward.judge(attempts)) for reward in rewards.values()
    )
    return dict(zip(rewards, given, strict=True))


def _feedback(results_by_name: Mapping[str, RewardResult], *, several: bool) -> str:
    reasons = {name: result.reason for name, result in results_by_name.items() if result.reason}
    return "; ".join(f"{name}: {text}" if several else text for name, text in reasons.items())


def _run(main: Coroutine[Any, Any, object]) -> None:
    """Runs `main` to completion, in another thread if an event loop is already running here."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(main)
        return
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, main).result()
