"""Episodes whose environments take their time, in virtual time."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from steadyrl.engines.driver import drive
from steadyrl.engines.protocol import Sampling
from steadyrl.environments.protocol import Outcome, Task
from steadyrl.environments.turn_limit import with_turn_limit
from steadyrl.records.message import Message
from steadyrl.records.trajectory import Group
from steadyrl.rollout.episodes import play_groups
from tests.rollout.fakes import TOKENIZER, Quiz, ScriptedEngine, some_tasks
from tests.virtual_time import drive_in_virtual_time

TURNS = 8


class SlowQuiz(Quiz):
    """Waits before each outcome for the seconds that stand in the episode's row of `waits`.

    Episodes take the rows in the order in which they are started.
    """

    def __init__(self, waits: np.ndarray) -> None:
        super().__init__(turns=waits.shape[1])
        self._rows = iter(waits)
        self.ended: list[float] = []

    def start(self, task: Task) -> Any:
        quiz, waits = super().start(task), iter(next(self._rows))

        async def respond(text: str) -> Outcome:
            await asyncio.sleep(next(waits))
            outcome = quiz.respond(text)
            if outcome.terminated:
                self.ended.append(asyncio.get_running_loop().time())
            return outcome

        return SimpleNamespace(respond=respond)


def playing(environment: Any, *, tasks: int = 1, group_size: int = 1, answer: Any = None) -> Any:
    """A rollout to be driven."""
    return play_groups(
        environment,
        ScriptedEngine(answer or (lambda *_: "right")),
        TOKENIZER,
        some_tasks(Quiz(), tasks),
        group_size=group_size,
        sampling=Sampling(max_new_tokens=8),
        seed=3,
    )


@pytest.mark.parametrize(("tasks", "group_size"), [(64, 1), (8, 8)])
def test_a_rollout_takes_as_long_as_its_slowest_episode(tasks: int, group_size: int) -> None:
    waits = np.random.default_rng(0).uniform(0.05, 1.0, (64, TURNS))
    groups, seconds = drive_in_virtual_time(
        playing(SlowQuiz(waits), tasks=tasks, group_size=group_size)
    )
    own = waits.sum(axis=1)
    assert seconds == pytest.approx(own.max())
    # All at once, turn by turn, would take the longest wait of each turn.
    assert waits.max(axis=0).sum() > 1.2 * own.max()
    assert all(t.reward == TURNS for group in groups for t in group.trajectories)


def test_one_slow_tool_costs_its_own_episode_once() -> None:
    waits = np.zeros((64, TURNS))
    waits[17, 0] = 1.0
    quiz = SlowQuiz(waits)
    _, seconds = drive_in_virtual_time(playing(quiz, tasks=64))
    assert seconds == pytest.approx(1.0)
    assert quiz.ended[:-1] == [0.0] * 63


def test_responses_that_block_run_beside_each_other_in_threads() -> None:
    meeting = threading.Barrier(6, timeout=60)

    class Meeting(Quiz):
        def start(self, task: Task) -> Any:
            def respond(text: str) -> Outcome:
                meeting.wait()  # passes only when all six are there
                return Outcome(reward=1.0, terminated=True)

            return SimpleNamespace(respond=respond)

    environment = with_turn_limit(Meeting(), 1, blocks=True)
    groups = drive(playing(environment, tasks=2, group_size=3))
    assert [group.rewards.tolist() for group in groups] == [[1.0] * 3] * 2


@pytest.mark.parametrize("error", [KeyError("gone"), SystemExit(3), asyncio.CancelledError()])
def test_what_an_awaited_response_raises_ends_its_episode_alone(error: BaseException) -> None:
    class Breaking(Quiz):
        def start(self, task: Task) -> Any:
            async def respond(text: str) -> Outcome:
                await asyncio.sleep(0.1)
                if text == "bad":
                    raise error
                return Outcome(reward=1.0, terminated=True)

            return SimpleNamespace(respond=respond)

    def answer(_prompt: str, number: int, _step: int) -> str:
        return ["right", "bad"][number]

    ((group,), _) = drive_in_virtual_time(playing(Breaking(), group_size=2, answer=answer))
    first, second = group.trajectories
    assert first.reward == 1.0
    assert second.truncation_reason.startswith(f"environment failed: {type(error).__name__}")


def test_what_a_rollout_raises_ends_all_its_episodes() -> None:
    left: list[int] = []

    class Waiting(Quiz):
        def start(self, task: Task) -> Any:
            async def respond(text: str) -> Outcome:
                try:
                    await asyncio.sleep(100)
                finally:
                    left.append(task.payload)
                raise AssertionError("cancelled before")

            return SimpleNamespace(respond=respond)

    class Broken(ScriptedEngine):
        def answer(self, requests: Any) -> Any:
            if self.calls:
                raise ValueError("the engine broke down")
            return super().answer(requests)

    async def two_rollouts() -> None:
        engine = Broken(lambda *_: "right")
        options: Any = {"group_size": 1, "sampling": Sampling(max_new_tokens=8), "seed": 3}
        tasks = some_tasks(Quiz(), 3)
        waiting = asyncio.ensure_future(play_groups(Waiting(), engine, TOKENIZER, tasks, **options))
        await asyncio.sleep(1)
        with pytest.raises(ValueError, match="broke down"):
            await play_groups(Quiz(), engine, TOKENIZER, tasks, **options)
        assert left == []
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    drive_in_virtual_time(two_rollouts())
    assert left == [0, 1, 2]


class Ranked(Quiz):
    """Pays the longest answer of a group 1, and the others nothing."""

    def __init__(self, *, awaits: bool) -> None:
        super().__init__()
        self._awaits = awaits
        self.asked: list[Group] = []

    def score_group(self, group: Group) -> Any:
        self.asked.append(group)
        lengths = [len(t.messages[-1].content) for t in group.trajectories]
        rewards = [float(length == max(lengths)) for length in lengths]

        async def later() -> list[float]:
            await asyncio.sleep(1)
            return rewards

        return later() if self._awaits else rewards


@pytest.mark.parametrize("awaits", [False, True])
def test_a_group_may_be_scored_as_a_whole(awaits: bool) -> None:
    words = ["a", "crash", "aaa", "aa"]
    quiz = Ranked(awaits=awaits)
    groups, seconds = drive_in_virtual_time(
        playing(quiz, tasks=2, group_size=4, answer=lambda _prompt, n, _step: words[n])
    )
    assert [group.rewards.tolist() for group in groups] == [[0, 0, 1, 0]] * 2
    assert [t.environment_failed for t in groups[0].trajectories] == [False, True, False, False]
    assert [len(group.trajectories) for group in quiz.asked] == [3, 3]
    assert seconds == float(awaits)  # both groups at once


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        ([1.0], "ValueError: score_group returned 1 rewards for 2 trajectories"),
        (None, "TypeError: score_group returned None, which is not a list"),
        ([1.0, float("nan")], "ValueError: the reward is nan"),
        ([None, None], "score_group returned None for it"),
        (KeyError("x"), "KeyError: 'x'"),
    ],
)
def test_a_group_that_cannot_be_scored_has_failed(scores: Any, reason: str) -> None:
    class Unscored(Quiz):
        def score_group(self, group: Group) -> Any:
            if isinstance(scores, Exception):
                raise scores
            return scores

    (group,) = drive(playing(Unscored(), group_size=2))
    for trajectory in group.trajectories:
        assert trajectory.environment_failed
        assert reason in trajectory.truncation_reason


def test_a_score_may_say_its_parts_or_that_there_is_none() -> None:
    class Partial(Quiz):
        def score_group(self, group: Group) -> Any:
            return [Outcome(reward=2.0, terminated=True, reward_parts={"a": 2.0}), None, 0.5]

    (group,) = drive(playing(Partial(), group_size=3))
    first, second, third = group.trajectories
    assert (first.reward, first.reward_parts) == (2, {"a": 2})
    assert (second.environment_failed, third.reward) == (True, 0.5)
    assert len(group.played.trajectories) == 2


def test_a_group_of_which_nothing_was_played_is_not_scored() -> None:
    class Never(Quiz):
        def score_group(self, group: Group) -> Any:
            raise AssertionError("there is nothing to compare")

    (group,) = drive(playing(Never(), group_size=2, answer=lambda *_: "crash"))
    assert all("KeyError" in t.truncation_reason for t in group.trajectories)


def test_observations_of_awaited_turns_are_read_by_the_next() -> None:
    class Echo(Quiz):
        def start(self, task: Task) -> Any:
            turns = iter((False, True))

            async def respond(text: str) -> Outcome:
                await asyncio.sleep(0.5)
                says = (Message(role="user", content=f"you said {text}"),)
                return Outcome(reward=0.0, terminated=next(turns), observation=says)

            return SimpleNamespace(respond=respond)

    ((group,), seconds) = drive_in_virtual_time(
        playing(Echo(), answer=lambda p, _n, _s: str(len(p)))
    )
    assert [m.content for m in group.trajectories[0].messages][:3] == ["q0", "23", "you said 23"]
    assert seconds == 1.0
