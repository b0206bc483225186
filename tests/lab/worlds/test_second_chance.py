"""The control: a failed attempt, its feedback, and another attempt in one conversation."""

from types import SimpleNamespace
from typing import Any

import pytest

from steadyrl.algorithms.reflection_prompts import ReflectionStyle
from steadyrl.algorithms.settings import AlgorithmContext
from steadyrl.base.errors import UserError
from steadyrl.engines.driver import drive
from steadyrl.engines.protocol import Sampling
from steadyrl.environments.protocol import Environment, Outcome, Split, Task
from steadyrl.lab.worlds.second_chance import SecondChance, SecondChanceSettings
from steadyrl.records.trajectory import Group
from steadyrl.rollout.episodes import play_groups
from steadyrl.rollout.tasks import FailedTask, make_tasks
from tests.algorithms.experiential import texts
from tests.driving import collect, respond
from tests.rollout.fakes import (
    TOKENIZER,
    Quiz,
    ScriptedEngine,
    ShortQuiz,
    TenthsQuiz,
    Unreliable,
    some_tasks,
)

COMPACT = {"style": ReflectionStyle.COMPACT}


def test_a_success_is_over_at_once() -> None:
    environment = SecondChance(Quiz(), **COMPACT)
    assert isinstance(environment, Environment)
    (task,) = some_tasks(Quiz(), 1)
    assert environment.task(Split.TRAIN, 0) == task
    outcome = environment.start(task).respond("right")
    assert (outcome.reward, outcome.terminated, outcome.observation) == (1.0, True, ())


def test_it_has_as_many_tasks_as_its_environment() -> None:
    assert SecondChance(ShortQuiz(3), **COMPACT).distinct_tasks(Split.TEST) == 3
    assert SecondChance(Quiz(), **COMPACT).distinct_tasks(Split.TEST) is None


def test_a_task_that_fails_is_one_that_failed() -> None:
    environment = SecondChance(Unreliable(tasks=[1], starts=1), **COMPACT)
    good, failed = make_tasks(environment, Split.TRAIN, range(2))
    assert isinstance(failed, FailedTask)
    assert not isinstance(good, FailedTask)
    (group,) = drive(
        play_groups(
            environment,
            ScriptedEngine(lambda *_: "right"),
            TOKENIZER,
            [good],
            group_size=2,
            sampling=Sampling(max_new_tokens=8),
            seed=0,
        )
    )
    assert [t.environment_failed for t in group.trajectories] == [True, False]


def test_an_environment_whose_turns_are_awaited_gets_a_second_chance_too() -> None:
    class Awaiting(Quiz):
        def start(self, task: Task) -> Any:
            episode = super().start(task)

            async def respond(text: str) -> Outcome:
                return episode.respond(text)

            return SimpleNamespace(respond=respond)

    episode = SecondChance(Awaiting(), **COMPACT).start(some_tasks(Quiz(), 1)[0])
    assert [respond(episode, word).terminated for word in ("w", "right")] == [False, True]


def test_an_environment_that_compares_episodes_is_refused() -> None:
    class Comparing(Quiz):
        def score_group(self, group: Group) -> list[float]:
            return []

    with pytest.raises(UserError, match="Comparing scores the attempts of a group together"):
        SecondChance(Comparing(), **COMPACT)


def test_a_failure_is_told_and_the_last_attempt_counts() -> None:
    for second, reward in (("right", 1.0), ("w", 0.0)):
        episode = SecondChance(Quiz(), **COMPACT).start(some_tasks(Quiz(), 1)[0])
        outcome = episode.respond("w")
        assert (outcome.reward, outcome.terminated) == (0.0, False)
        assert [m.content for m in outcome.observation] == ["you wrote w\nq0"]
        outcome = episode.respond(second)
        assert (outcome.reward, outcome.terminated) == (reward, True)


def test_rewards_of_long_attempts_are_those_of_the_last_one_alone() -> None:
    # Two turns an attempt; a threshold that one right turn of two does not reach.
    harder = {"threshold": 1.5, "style": ReflectionStyle.RULEBOOK}
    episode = SecondChance(Quiz(turns=2), **harder).start(some_tasks(Quiz(), 1)[0])
    outcomes = [episode.respond(word) for word in ("right", "w", "right", "right")]
    assert [outcome.reward for outcome in outcomes] == [1.0, -1.0, 1.0, 1.0]
    assert [outcome.terminated for outcome in outcomes] == [False] * 3 + [True]
    (again,) = outcomes[1].observation
    assert again.content == (
        "Feedback:\nyou wrote right\nyou wrote w\n\nTry the same task once more.\n\nq0"
    )


def test_an_attempt_whose_turns_add_up_to_the_threshold_is_no_failure() -> None:
    episode = SecondChance(TenthsQuiz(), **COMPACT).start(some_tasks(Quiz(), 1)[0])
    *_, last = [episode.respond("x") for _ in range(10)]
    assert last.terminated


@pytest.mark.parametrize(
    ("words", "reward"), [(["right", "cut..."], 1.0), (["right", "w", "right", "cut..."], 1.0)]
)
def test_what_was_earned_before_the_budget_was_spent_is_kept(
    words: list[str], reward: float
) -> None:
    # As without a second chance: the first attempt's or, once that is over, the second's.
    harder = {"threshold": 1.5, "style": ReflectionStyle.RULEBOOK}
    quiz = Quiz(turns=2)
    (group,) = drive(
        play_groups(
            SecondChance(quiz, **harder),
            ScriptedEngine(lambda _prompt, _number, call: words[call]),
            TOKENIZER,
            some_tasks(quiz, 1),
            group_size=1,
            sampling=Sampling(max_new_tokens=8),
            seed=0,
        )
    )
    (episode,) = group.trajectories
    assert (episode.reward, episode.truncation_reason) == (reward, "token budget spent")


def test_policy_gradient_learns_from_both_attempts_by_the_last_reward() -> None:
    def answer(prompt: str, number: int, call: int) -> str:
        return "right" if number == 0 or (call == 1 and "w1" in prompt) else f"w{number}"

    parts = AlgorithmContext(
        environment=Quiz(), tokenizer=TOKENIZER, sampling=Sampling(max_new_tokens=8), seed=0
    )
    subject = SecondChanceSettings(prompts=1, group_size=3, max_turns=2, **COMPACT).make(parts)
    # The third episode is wrong twice: its second request is answer number 0 of the engine.
    engine = ScriptedEngine(
        lambda prompt, number, call: "w9" if "w2" in prompt else answer(prompt, number, call)
    )
    experience = collect(subject, 0, engine)
    rewards = [t.reward for t in experience.groups[0].trajectories]
    assert rewards == [1.0, 1.0, 0.0]
    ((batch,),) = experience.mini_batches
    assert texts(batch)[1] == (
        "<|user|>q0<|assistant|>w1<|end|><|user|>you wrote w1\nq0<|assistant|>right<|end|>"
    )
    credits = [batch.advantages[row][batch.loss_mask[row]].unique().tolist() for row in range(3)]
    assert [len(credit) for credit in credits] == [1, 1, 1]
