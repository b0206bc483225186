"""Tasks and episodes of environments that break, or give other things."""

import re
import sys
from collections.abc import Iterable
from typing import Any

import pytest

from steadyrl.base.errors import UserError
from steadyrl.environments.protocol import Split, Task
from steadyrl.rollout.tasks import (
    MAX_SHUFFLED_TASKS,
    FailedTask,
    distinct_tasks,
    first_tasks,
    make_tasks,
    shuffled_tasks,
    start_episode,
)
from tests.environments.unchecked import unchecked
from tests.rollout.fakes import Quiz, ShortQuiz


class Broken(Quiz):
    """Does what its task or its start is told to."""

    def __init__(self, what: Any) -> None:
        super().__init__()
        self.what = what

    def task(self, split: Split, index: int) -> Task:
        return self.what(split, index)

    def start(self, task: Task) -> Any:
        return self.what(task)


def raises(*_: object) -> Any:
    raise IndexError("no such\nthing.")


def leaves(*_: object) -> Any:
    sys.exit(3)


class Silent:
    def __repr__(self) -> str:
        raise RuntimeError("there are no words")


def refuses(*_: object) -> Any:
    raise UserError("Give more problems.")


def test_tasks_have_the_numbers_that_were_asked_for() -> None:
    tasks = make_tasks(Quiz(), Split.TEST, range(3, 6))
    assert [task.id for task in tasks] == [f"quiz/test/{number}" for number in (3, 4, 5)]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (
            leaves,
            r"Broken.task failed on number 2 of the test split: SystemExit: 3 \(.*\.py:\d+\)",
        ),
        (
            lambda *_: Silent(),
            r"Broken.task returned a Silent whose repr failed, which is not a task",
        ),
        (raises, r"Broken.task failed on number 2 of the test split: IndexError: no such thing \("),
        (lambda *_: None, r"Broken.task returned None, which is not a task. Return a Task\("),
        (
            lambda *_: {"prompt": "hi"},
            r"Broken.task returned {'prompt': 'hi'}, which is not a task",
        ),
        (lambda *_: unchecked(Task, prompt="hi"), r"TypeError: the prompt is 'hi'. Give a"),
        (refuses, r"^Give more problems\.$"),
    ],
)
def test_what_gives_no_task_is_a_failed_task(what: Any, message: str) -> None:
    (task,) = make_tasks(Broken(what), Split.TEST, [2])
    assert isinstance(task, FailedTask)
    assert task.id == "test/2"
    assert re.search(message, task.failure)
    with pytest.raises(UserError, match=message):
        start_episode(Quiz(), task)


def test_the_tasks_beside_one_that_failed_are_there() -> None:
    def sometimes(split: Split, index: int) -> Task:
        return raises() if index == 4 else Quiz().task(split, index)

    tasks = make_tasks(Broken(sometimes), Split.TEST, range(3, 6))
    assert [task.id for task in tasks] == ["quiz/test/3", "test/4", "quiz/test/5"]


def test_where_tasks_cannot_be_counted_all_have_failed() -> None:
    class Uncounted(Quiz):
        def distinct_tasks(self, split: Split) -> int:
            raise ConnectionError("no library")

    tasks = shuffled_tasks(Uncounted(), Split.TEST, range(3, 6), seed=0)
    assert [task.id for task in tasks] == ["test/3", "test/4", "test/5"]
    assert len(first_tasks(Uncounted(), Split.TEST, 4, seed=0)) == 4
    for task in tasks:
        assert isinstance(task, FailedTask)
        assert "ConnectionError: no library" in task.failure


def test_the_first_tasks_are_each_there_once() -> None:
    assert {t.payload for t in first_tasks(ShortQuiz(3), Split.TEST, 8, seed=0)} == {0, 1, 2}
    assert [t.payload for t in first_tasks(Quiz(), Split.TEST, 3, seed=0)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (raises, r"Broken.start failed on the task 'quiz/test/2': IndexError: no such thing \("),
        (
            lambda *_: None,
            r"Broken.start returned None, which is not an episode. Return an object with",
        ),
        (refuses, r"^Give more problems\.$"),
    ],
)
def test_what_starts_no_episode_is_refused(what: Any, message: str) -> None:
    (task,) = make_tasks(Quiz(), Split.TEST, [2])
    with pytest.raises(UserError, match=message):
        start_episode(Broken(what), task)


@pytest.mark.parametrize(
    ("environment", "count"), [(Quiz(), None), (ShortQuiz(None), None), (ShortQuiz(3), 3)]
)
def test_tasks_are_counted_where_the_environment_can(environment: Quiz, count: int | None) -> None:
    assert distinct_tasks(environment, Split.TEST) == count


def test_what_is_no_count_of_tasks_is_refused() -> None:
    with pytest.raises(UserError, match=r"ShortQuiz.distinct_tasks returned 'few'. Return an"):
        distinct_tasks(ShortQuiz("few"), Split.TEST)


def test_a_failure_is_told_with_its_line() -> None:
    (task,) = make_tasks(Broken(raises), Split.TEST, [2])
    assert isinstance(task, FailedTask)
    (number,) = re.findall(r"\(.*test_tasks\.py:(\d+)\)", task.failure)
    with open(__file__, encoding="utf-8") as file:
        assert "raise IndexError" in file.readlines()[int(number) - 1]


def numbers_of(environment: Quiz, numbers: Iterable[int], seed: int = 0) -> list[int]:
    return [t.payload for t in shuffled_tasks(environment, Split.TRAIN, numbers, seed=seed)]


def test_a_stored_set_is_gone_through_in_a_new_order_each_time() -> None:
    first, second, third = (numbers_of(ShortQuiz(20), range(20 * n, 20 * n + 20)) for n in range(3))
    assert sorted(first) == sorted(second) == sorted(third) == list(range(20))
    assert first != second != third != first
    assert first != list(range(20))
    # A step that reaches over the end of a pass has its parts of both.
    assert numbers_of(ShortQuiz(20), range(15, 25)) == first[15:] + second[:5]
    assert numbers_of(ShortQuiz(20), range(20), seed=1) not in (first, list(range(20)))


@pytest.mark.parametrize("count", [None, 0, MAX_SHUFFLED_TASKS + 1])
def test_what_is_no_stored_set_stays_in_order(count: int | None) -> None:
    assert numbers_of(ShortQuiz(count), range(5, 9)) == [5, 6, 7, 8]
