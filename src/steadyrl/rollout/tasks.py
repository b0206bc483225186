"""Calls into environments, whose code may fail or return invalid objects."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from jaxtyping import Int

from steadyrl.base.concurrency import await_if_needed
from steadyrl.base.errors import UserError, call_user_code, cause, require_type, safe_repr
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
from steadyrl.records.truncation import ENVIRONMENT_FAILED
from steadyrl.rollout.seeds import derive_seed

MAX_SHUFFLED_TASKS = 10**7
"""Largest number of tasks per split that are shuffled. Larger splits are read in order."""

_ORDER = 2**32 - 1
"""Seed path of the shuffle. No step has this number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedTask(Task):
    """Placeholder of a task that the environment failed to make. No episode of it is started."""

    failure: str
    """Reason of the failure."""

    @classmethod
    def of(cls, split: Split, number: int, error: UserError) -> "FailedTask":
        """The placeholder of task `number`."""
        nothing = (Message(role="user", content=""),)
        return cls(id=f"{split}/{number}", prompt=nothing, payload=None, failure=str(error))


def make_tasks(environment: TaskSource, split: Split, numbers: Iterable[int]) -> list[Task]:
    """The tasks of `split` with these numbers, in order.

    A task that the environment fails to make becomes a `FailedTask`.
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
    """Tasks of `split` in an order shuffled by `seed`, anew in each pass over all of them.

    If the environment does not know its number of tasks, they are in order. A task that the
    environment fails to make becomes a `FailedTask`.
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
    """The first `limit` of `shuffled_tasks`, or each task of `split` once if it has fewer."""
    try:
        count = distinct_tasks(environment, split)
    except UserError as error:
        return [FailedTask.of(split, number, error) for number in range(limit)]
    if count is not None:
        limit = min(limit, max(1, count))
    return shuffled_tasks(environment, split, range(limit), seed=seed)


@lru_cache(maxsize=4)
def _order(count: int, seed: int, passed: int) -> Int[np.ndarray, " N"]:
    """Permutation of the numbers below `count` in pass number `passed`."""
    return np.random.default_rng(derive_seed(seed, _ORDER, passed)).permutation(count)


def distinct_tasks(environment: Environment, split: Split) -> int | None:
    """Number of distinct tasks in `split`; None if the environment does not know.

    Raises:
        UserError: the environment raises, or returns something other than a number.
    """
    if not isinstance(environment, SupportsTaskCount):
        return None
    name = type(environment).__name__
    count = call_user_code(
        partial(environment.distinct_tasks, split),
        failure=f"{name}.distinct_tasks failed on the {split} split",
        remedy="Fix or remove it.",
    )
    if count is not None and not isinstance(count, int):
        raise UserError(
            f"{name}.distinct_tasks returned {safe_repr(count)}. Return an integer, or None if "
            "there is no limit."
        )
    return count


def start_episode(environment: Environment, task: Task) -> Episode:
    """Starts an attempt at `task`.

    Raises:
        UserError: the task failed, or the environment raises or does not return an episode.
    """
    if isinstance(task, FailedTask):
        raise UserError(task.failure)
    name = type(environment).__name__
    episode = call_user_code(
        partial(environment.start, task),
        failure=f"{name}.start failed on the task {task.id!r}",
        remedy="Fix it: every task must be startable any number of times.",
    )
    remedy = "Return an object with the method respond(text)."
    return require_type(
        episode, Episode, given_by=f"{name}.start", noun="an episode", remedy=remedy
    )


async def respond(episode: Episode, text: str) -> Outcome:
    """Outcome of the model's turn `text`.

    Raises:
        TypeError: the result is not an Outcome. Exceptions of the episode are passed through.
    """
    return check_outcome(await await_if_needed(episode.respond(text)))


def check_outcome(outcome: object) -> Outcome:
    """Returns `outcome` if it is an Outcome.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(outcome, Outcome):
        raise TypeError(f"respond returned {safe_repr(outcome)}, which is not an Outcome")
    return outcome


def failure_reason(error: BaseException) -> str:
    """Reason of truncation for an exception of the environment."""
    reason = str(error) if isinstance(error, UserError) else cause(error)
    return f"{ENVIRONMENT_FAILED}: {reason}"


def _task(environment: TaskSource, split: Split, number: int) -> Task:
    name = type(environment).__name__
    task = call_user_code(
        partial(environment.task, split, number),
        failure=f"{name}.task failed on number {number} of the {split} split",
        remedy="Fix it: there must be a task for every number from 0.",
    )
    remedy = "Return a Task(id=..., prompt=..., payload=...)."
    return require_type(task, Task, given_by=f"{name}.task", noun="a task", remedy=remedy)
