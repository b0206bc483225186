"""Tasks and episodes of an environment: foreign code, which may break or give something else."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from jaxtyping import Int

from steadyrl.base.concurrency import await_if_needed
from steadyrl.base.errors import UserError, call_user_code, describe_error, require_type, safe_repr
from steadyrl.environments.protocol import (
    Environment,
    Episode,
    Outcome,
    Split,
    SupportsTaskCount,
    Task,
    TaskSource,
)
from steadyrl.records.message import Message
from steadyrl.records.trajectory import ENVIRONMENT_FAILED
from steadyrl.rollout.seeds import derive_seed

MAX_SHUFFLED_TASKS = 10**7
"""Tasks that a split may have to be shuffled. Of more, each is made when it is asked for."""

_ORDER = 2**32 - 1
"""What the random numbers are for: no step has this number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedTask(Task):
    """Stands for a task that the environment did not give. No episode of it is begun."""

    failure: str
    """Why there is none."""

    @classmethod
    def of(cls, split: Split, number: int, error: UserError) -> "FailedTask":
        """The one in the place of task `number`."""
        nothing = (Message(role="user", content=""),)
        return cls(id=f"{split}/{number}", prompt=nothing, payload=None, failure=str(error))


def make_tasks(environment: TaskSource, split: Split, numbers: Iterable[int]) -> list[Task]:
    """The tasks of `split` with these numbers, in order.

    Where the environment fails, or gives something else than a task, there is a `FailedTask`.
    """
    tasks: list[Task] = []
    for number in numbers:
        try:
            tasks.append(_task(environment, split, number))
        except UserError as error:
            tasks.append(FailedTask.of(split, number, error))
    return tasks


def shuffled_tasks(
    environment: Environment, split: Split, numbers: Iterable[int], *, seed: int
) -> list[Task]:
    """Tasks of `split` in an order drawn from `seed`, a new one for each pass over all of them.

    Only where the environment says how many there are. Without end they are in order: each is
    drawn by the environment itself. Where the environment fails, there is a `FailedTask`.
    """
    try:
        count = distinct_tasks(environment, split)
    except UserError as error:  # the order of all tasks depends on their number
        return [FailedTask.of(split, number, error) for number in numbers]
    if count is None or not 1 <= count <= MAX_SHUFFLED_TASKS:
        return make_tasks(environment, split, numbers)
    places = [divmod(number, count) for number in numbers]
    chosen = [int(_order(count, seed, passed)[place]) for passed, place in places]
    return make_tasks(environment, split, chosen)


def first_tasks(environment: Environment, split: Split, limit: int, *, seed: int) -> list[Task]:
    """The first `limit` of `shuffled_tasks`, or all of `split` where it has fewer: each once."""
    try:
        count = distinct_tasks(environment, split)
    except UserError as error:
        return [FailedTask.of(split, number, error) for number in range(limit)]
    if count is not None:
        limit = min(limit, max(1, count))
    return shuffled_tasks(environment, split, range(limit), seed=seed)


@lru_cache(maxsize=4)
def _order(count: int, seed: int, passed: int) -> Int[np.ndarray, " N"]:
    """The numbers below `count` as pass number `passed` goes through them."""
    return np.random.default_rng(derive_seed(seed, _ORDER, passed)).permutation(count)


def distinct_tasks(environment: Environment, split: Split) -> int | None:
    """Tasks of `split` before it starts over; None where the environment does not say.

    Raises:
        UserError: the environment fails, or gives something else than a number.
    """
    if not isinstance(environment, SupportsTaskCount):
        return None
    name = type(environment).__name__
    count = call_user_code(
        partial(environment.distinct_tasks, split),
        failure=f"{name}.distinct_tasks failed on the {split} split",
        remedy="Correct it, or leave it out.",
    )
    if count is not None and not isinstance(count, int):
        raise UserError(
            f"{name}.distinct_tasks gives {safe_repr(count)}. Give a whole number, or None where "
            "there is no end of tasks."
        )
    return count


def start_episode(environment: Environment, task: Task) -> Episode:
    """A fresh attempt at `task`.

    Raises:
        UserError: there is no task, the environment fails, or gives something else than an episode.
    """
    if isinstance(task, FailedTask):
        raise UserError(task.failure)
    name = type(environment).__name__
    episode = call_user_code(
        partial(environment.start, task),
        failure=f"{name}.start failed on the task {task.id!r}",
        remedy="Correct it: every task can be started any number of times.",
    )
    remedy = "Give an object with the method respond(text)."
    return require_type(
        episode, Episode, given_by=f"{name}.start", noun="an episode", remedy=remedy
    )


async def respond(episode: Episode, text: str) -> Outcome:
    """The outcome of the model's turn `text`.

    Raises:
        TypeError: the episode gives something else. What it raises goes through.
    """
    return check_outcome(await await_if_needed(episode.respond(text)))


def check_outcome(outcome: object) -> Outcome:
    """`outcome` of an episode.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(outcome, Outcome):
        raise TypeError(f"respond gives {safe_repr(outcome)}, which is not an Outcome")
    return outcome


def failure_reason(error: BaseException) -> str:
    """Why an episode was cut short by an exception of its environment."""
    reason = str(error) if isinstance(error, UserError) else describe_error(error)
    return f"{ENVIRONMENT_FAILED}: {reason}"


def _task(environment: TaskSource, split: Split, number: int) -> Task:
    name = type(environment).__name__
    task = call_user_code(
        partial(environment.task, split, number),
        failure=f"{name}.task failed on number {number} of the {split} split",
        remedy="Correct it: there is a task for every number from 0 on.",
    )
    remedy = "Give a Task(id=..., prompt=..., payload=...)."
    return require_type(task, Task, given_by=f"{name}.task", noun="a task", remedy=remedy)
