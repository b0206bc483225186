"""Episodes are held to the number of turns that is stated."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from steadyrl.algorithms.reflection_prompts import SupportsGuidance
from steadyrl.engines.driver import drive
from steadyrl.engines.protocol import Sampling
from steadyrl.environments.custom import CustomSettings
from steadyrl.environments.protocol import Closable, Outcome, Split, Task
from steadyrl.environments.turn_limit import with_turn_limit
from steadyrl.records.trajectory import Trajectory
from steadyrl.rollout.episodes import play_groups
from steadyrl.rollout.tasks import distinct_tasks
from tests.driving import respond
from tests.rollout.fakes import TOKENIZER, Quiz, ScriptedEngine, ShortQuiz, some_tasks


def asks_twice() -> Quiz:
    """An environment of two turns, for `environment.name`."""
    return Quiz(turns=2)


def played(turns: int) -> Trajectory:
    settings = CustomSettings(name=f"{__name__}:asks_twice", turns=turns)
    environment = settings.make()
    (group,) = drive(
        play_groups(
            environment,
            ScriptedEngine(lambda *_: "right"),
            TOKENIZER,
            some_tasks(environment, 1),
            group_size=1,
            sampling=Sampling(max_new_tokens=8),
            seed=3,
        )
    )
    return group.trajectories[0]


def test_an_episode_that_goes_on_after_its_turns_has_failed_with_the_reason() -> None:
    episode = played(turns=1)
    assert episode.environment_failed
    assert "not over after turn 1, but environment.turns is 1. Return" in episode.truncation_reason


@pytest.mark.parametrize("turns", [2, 3])
def test_an_episode_within_its_turns_is_played_to_its_end(turns: int) -> None:
    episode = played(turns=turns)
    assert (episode.terminated, episode.reward) == (True, 2.0)


class Guided(ShortQuiz):
    """Says how its tasks are guided."""

    closed = False

    def guide(self, task: Task, rulebook: str) -> Task:
        return task

    def close(self) -> None:
        self.closed = True


def test_a_limited_environment_has_the_name_and_the_methods_of_its_own() -> None:
    inner = Guided(3)
    plain, guided = with_turn_limit(Quiz(), 1), with_turn_limit(inner, 1)
    assert (type(plain).__name__, type(guided).__name__) == ("Quiz", "Guided")
    assert distinct_tasks(plain, Split.TRAIN) is None
    assert distinct_tasks(guided, Split.TRAIN) == 3
    assert not isinstance(plain, SupportsGuidance)
    assert isinstance(guided, SupportsGuidance)
    assert not isinstance(plain, Closable)
    assert isinstance(guided, Closable)
    guided.close()
    assert inner.closed


class AwaitingQuiz(Quiz):
    """Episodes of two turns whose outcomes are awaited."""

    def start(self, task: Task) -> Any:
        inner = Quiz(turns=2).start(task)

        async def respond(text: str) -> Outcome:
            await asyncio.sleep(0)
            return inner.respond(text)

        return SimpleNamespace(respond=respond)


@pytest.mark.parametrize("blocks", [False, True])
@pytest.mark.parametrize("quiz", [AwaitingQuiz(), Quiz(turns=2)])
def test_an_episode_is_held_to_its_turns_however_it_answers(quiz: Quiz, blocks: bool) -> None:
    task = some_tasks(Quiz(), 1)[0]
    episode = with_turn_limit(quiz, 2, blocks=blocks).start(task)
    assert [respond(episode, word).reward for word in ("right", "wrong")] == [1.0, 0.0]
    with pytest.raises(RuntimeError, match="not over after turn 1"):
        respond(with_turn_limit(quiz, 1, blocks=blocks).start(task), "right")


def test_a_response_that_blocks_is_called_in_a_thread_of_its_own() -> None:
    class Threads(Quiz):
        def start(self, task: Task) -> Any:
            def respond(text: str) -> Outcome:
                return Outcome(
                    reward=float(threading.current_thread() is threading.main_thread()),
                    terminated=True,
                )

            return SimpleNamespace(respond=respond)

    task = some_tasks(Quiz(), 1)[0]
    rewards = [
        respond(with_turn_limit(Threads(), 1, blocks=blocks).start(task), "").reward
        for blocks in (True, False)
    ]
    assert rewards == [0.0, 1.0]
