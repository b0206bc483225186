"""Rewards of known answers, and what a sample says of its tasks."""

from collections.abc import Callable
from math import comb

import pytest

from steadyrl.analysis.safety import Finding, Verdict
from steadyrl.engines.driver import drive
from steadyrl.environments.arithmetic import Arithmetic, ArithmeticSettings
from steadyrl.environments.protocol import Episode, Outcome, Split, Task
from steadyrl.preflight.answers import reward_findings, sample_findings
from steadyrl.records.message import Message
from steadyrl.records.trajectory import Group, Trajectory
from steadyrl.rollout.tasks import make_tasks


class Words:
    """Asks to repeat a number."""

    def __init__(self, pay: Callable[[str, str], float]) -> None:
        self._pay = pay

    def task(self, split: Split, index: int) -> Task:
        prompt = Message(role="user", content=f"Say {index}.")
        return Task(id=str(index), prompt=(prompt,), payload=str(index))

    def start(self, task: Task) -> Episode:
        return Words.Attempt(self._pay, task.payload)

    class Attempt:
        def __init__(self, pay: Callable[[str, str], float], gold: str) -> None:
            self._pay, self._gold = pay, gold

        def respond(self, text: str) -> Outcome:
            return Outcome(reward=self._pay(text, self._gold), terminated=True)


class SolvedWords(Words):
    def solution(self, task: Task) -> tuple[str, ...]:
        return (task.payload,)


def rewards(environment: Words | Arithmetic, turns: int = 1) -> dict[str, Finding]:
    tasks = make_tasks(environment, Split.TRAIN, range(6))
    return {f.question: f for f in drive(reward_findings(environment, tasks, turns=turns))}


def verdicts(pay: Callable[[str, str], float]) -> list[Verdict | None]:
    found = rewards(SolvedWords(pay))
    return [found[name].verdict for name in ("gold", "garbage", "other_gold")]


SAFE, WATCH, UNSAFE = Verdict.SAFE, Verdict.WATCH, Verdict.UNSAFE


def test_a_reward_that_pays_what_is_right_is_safe() -> None:
    assert verdicts(lambda text, gold: float(text == gold)) == [SAFE, SAFE, SAFE]


def test_a_reward_that_never_pays_is_unsafe() -> None:
    assert verdicts(lambda text, gold: 0.0)[0] is UNSAFE


def test_a_reward_that_pays_for_the_prompt_is_unsafe() -> None:
    assert verdicts(lambda text, gold: float(gold in text)) == [UNSAFE, UNSAFE, SAFE]


def test_a_reward_of_any_number_pays_the_answers_to_other_tasks() -> None:
    assert verdicts(lambda text, gold: float(text.isdigit())) == [SAFE, SAFE, UNSAFE]


def test_right_answers_are_the_measure_of_a_reward_of_another_scale() -> None:
    assert verdicts(lambda text, gold: 0.1 * (text == gold)) == [SAFE, SAFE, SAFE]
    found = rewards(SolvedWords(lambda text, gold: 0.1))
    assert (found["garbage"].value, found["gold"].value) == (1.0, 0.0)


def test_a_judge_that_fails_does_not_pay() -> None:
    def pay(text: str, gold: str) -> float:
        raise RuntimeError("down")

    assert rewards(SolvedWords(pay))["gold"].value == 0.0


def test_without_solutions_only_garbage_is_judged() -> None:
    found = rewards(Words(lambda text, gold: float(text == "")))

    assert found["gold"].verdict is found["other_gold"].verdict is None
    assert "solution(task)" in found["gold"].detail
    assert found["garbage"].value == pytest.approx(1 / 3)


@pytest.mark.parametrize("turns", ["single", "multi"])
def test_arithmetic_pays_its_solutions_alone(turns: str) -> None:
    environment = Arithmetic(ArithmeticSettings(turns=turns))
    found = rewards(environment, turns=environment.settings.max_turns)

    assert (found["gold"].value, found["garbage"].value) == (1.0, 0.0)


def group(*earned: float, truncated: int = 0) -> Group:
    trajectories = tuple(
        Trajectory(
            task_id="t",
            messages=(),
            completions=(),
            reward=float(reward),
            feedback="",
            terminated=number >= truncated,
            truncated=number < truncated,
            truncation_reason="token budget spent" if number < truncated else "",
        )
        for number, reward in enumerate(earned)
    )
    return Group(task_id="t", trajectories=trajectories)


def test_groups_without_signal_are_counted_for_the_size_of_training() -> None:
    # Of the 6 pairs of 1 1 1 0, three earn the same; a group of four never does.
    groups = [group(1, 1, 1, 0)]

    def share(size: int) -> float | None:
        found = {f.question: f.value for f in sample_findings(groups, size)}
        return found["no_signal"]

    assert share(2) == comb(3, 2) / comb(4, 2) == 0.5
    assert share(4) == share(16) == 0.0


def test_pass_at_one_and_at_k_and_what_was_cut_short() -> None:
    found = {
        f.question: f.value
        for f in sample_findings([group(1, 0, 0, 0), group(0, 0, 0, 0, truncated=2)], 4)
    }

    assert found == {"truncated": 0.25, "no_signal": 0.5, "pass_1": 0.125, "pass_k": 0.5}
