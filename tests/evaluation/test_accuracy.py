"""avg@k and pass@k."""

from collections.abc import Callable, Sequence
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.rollout.fakes import TOKENIZER, LongQuiz, Quiz, ScriptedEngine, ShortQuiz

from steadyrl.base.errors import UserError
from steadyrl.engines.driver import drive
from steadyrl.engines.protocol import Request, Sampling
from steadyrl.environments.protocol import Split
from steadyrl.evaluation.accuracy import Accuracy, EvaluationSettings, measure_accuracy
from steadyrl.records.completion import Completion, FinishReason
from steadyrl.records.trajectory import Group, Trajectory

REWARDS = st.lists(
    st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=5, max_size=5), min_size=1, max_size=4
)


def accuracy_of(rewards: list[list[float]]) -> Accuracy:
    completion = Completion(
        prompt_ids=torch.tensor([1]),
        token_ids=torch.tensor([2]),
        logprobs=torch.tensor([0.0]),
        finish_reason=FinishReason.STOP,
        policy_version=0,
    )
    groups = tuple(
        Group(
            task_id=f"task {number}",
            trajectories=tuple(
                Trajectory(
                    task_id=f"task {number}",
                    messages=(),
                    completions=(completion,),
                    reward=reward,
                    terminated=True,
                    truncated=False,
                )
                for reward in task
            ),
        )
        for number, task in enumerate(rewards)
    )
    return Accuracy(groups=groups)


@settings(deadline=None, max_examples=60)
@given(rewards=REWARDS, k=st.integers(1, 5))
def test_pass_at_k_is_the_share_of_draws_with_a_right_answer(
    rewards: list[list[float]], k: int
) -> None:
    """By drawing every set of k samples. Half a reward is not a right answer."""
    shares = []
    for task in rewards:
        draws = [max(draw) == 1.0 for draw in combinations(task, k)]
        shares.append(sum(draws) / len(draws))
    expected = sum(shares) / len(shares)
    assert accuracy_of(rewards).pass_at(k) == pytest.approx(expected, abs=1e-12)


def test_score_is_the_mean_reward() -> None:
    # Two tasks with rewards 1, 0 and 0.5, 0: 1.5 of 4.
    assert accuracy_of([[1.0, 0.0], [0.5, 0.0]]).score == 0.375


@pytest.mark.parametrize("k", [0, 3])
def test_pass_at_k_needs_k_samples(k: int) -> None:
    accuracy = accuracy_of([[1.0, 0.0]])
    with pytest.raises(
        UserError, match=rf"pass@{k} cannot be estimated from 2 samples per task. Use k"
    ):
        accuracy.pass_at(k)


def test_measuring_asks_the_tasks_of_the_split_as_often_as_wanted() -> None:
    engine = ScriptedEngine(
        lambda prompt, number, _call: "right" if f"q{number}" in prompt else "x"
    )
    accuracy = drive(
        measure_accuracy(
            EvaluationSettings(split=Split.VALIDATION, tasks=3, samples=2),
            environment=Quiz(),
            engine=engine,
            tokenizer=TOKENIZER,
            sampling=Sampling(max_new_tokens=4),
            seed=1,
        )
    )
    # Sample n is right on task n: tasks 0 and 1 have one right answer of two, task 2 none.
    assert [group.task_id for group in accuracy.groups] == [
        f"quiz/validation/{number}" for number in range(3)
    ]
    assert accuracy.score == pytest.approx(2 / 6)
    assert accuracy.pass_at(1) == pytest.approx(2 / 6)
    assert accuracy.pass_at(2) == pytest.approx(2 / 3)


def test_the_same_tasks_of_a_stored_set_are_measured_in_every_run_and_not_its_head() -> None:
    def measured(seed: int) -> list[str]:
        accuracy = drive(
            measure_accuracy(
                EvaluationSettings(tasks=10, samples=1),
                environment=ShortQuiz(1000),
                engine=ScriptedEngine(lambda *_: "right"),
                tokenizer=TOKENIZER,
                sampling=Sampling(max_new_tokens=8),
                seed=seed,
            )
        )
        return [group.task_id for group in accuracy.groups]

    assert measured(seed=1) == measured(seed=2)
    assert not set(measured(seed=1)) & {f"quiz/test/{number}" for number in range(100)}


@pytest.mark.parametrize(("there", "measured"), [(3, 3), (5, 5), (8, 5), (None, 5)])
def test_no_task_is_measured_twice(there: int | None, measured: int) -> None:
    accuracy = drive(
        measure_accuracy(
            EvaluationSettings(tasks=5, samples=1),
            environment=ShortQuiz(there),
            engine=ScriptedEngine(lambda *_: "right"),
            tokenizer=TOKENIZER,
            sampling=Sampling(max_new_tokens=8),
            seed=1,
        )
    )
    asked = {group.task_id for group in accuracy.groups}
    assert len(accuracy.groups) == len(asked) == measured
    told = "the test split has only 3 tasks, 5 were requested"
    assert accuracy.shortfall(5) == ("" if measured == 5 else told)


def test_turns_of_an_evaluation_are_limited() -> None:
    accuracy = drive(
        measure_accuracy(
            EvaluationSettings(tasks=1, samples=1, max_turns=2),
            environment=Quiz(turns=5),
            engine=ScriptedEngine(lambda *_: "right"),
            tokenizer=TOKENIZER,
            sampling=Sampling(max_new_tokens=4),
            seed=1,
        )
    )
    assert accuracy.groups[0].trajectories[0].truncation_reason == "not over after 2 turns"
    assert accuracy.groups[0].task_id == "quiz/test/0"


def test_what_an_evaluation_does_not_say_of_its_sampling_is_as_in_training() -> None:
    training = Sampling(temperature=0.7, top_p=0.9, max_new_tokens=4)
    assert EvaluationSettings().sampling(training) == training
    own = EvaluationSettings(top_p=0.8, top_k=20)
    expected = Sampling(temperature=0.7, top_p=0.8, top_k=20, max_new_tokens=4)
    assert own.sampling(training) == expected
    assert EvaluationSettings(temperature=0.0).sampling(training).temperature == 0


def test_an_evaluation_samples_in_its_own_way() -> None:
    seen: list[Sampling] = []

    class Noting(ScriptedEngine):
        def answer(self, requests: Sequence[Request]) -> list[list[Completion]]:
            seen.extend(request.sampling for request in requests)
            return super().answer(requests)

    drive(
        measure_accuracy(
            EvaluationSettings(tasks=1, samples=1, top_k=20),
            environment=Quiz(),
            engine=Noting(lambda *_: "right"),
            tokenizer=TOKENIZER,
            sampling=Sampling(max_new_tokens=4),
            seed=1,
        )
    )
    assert {(sampling.top_k, sampling.max_new_tokens) for sampling in seen} == {(20, 4)}


@pytest.mark.parametrize(
    "wrong", [{"tasks": 0}, {"samples": 0}, {"split": "dev"}, {"top_k": 0}, {"temperature": -1.0}]
)
def test_impossible_evaluations_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        EvaluationSettings(**wrong)


def measured(
    words: Callable[[str, int], str], *, samples: int = 2, environment: Quiz | None = None
) -> Accuracy:
    """Of two tasks, where `words` gives what sample number `n` says to a prompt."""
    return drive(
        measure_accuracy(
            EvaluationSettings(tasks=2, samples=samples),
            environment=environment or Quiz(),
            engine=ScriptedEngine(
                lambda prompt, number, _call: words(prompt, number), max_positions=20
            ),
            tokenizer=TOKENIZER,
            sampling=Sampling(max_new_tokens=8),
            seed=1,
        )
    )


def test_episodes_that_the_environment_broke_off_are_no_wrong_answers() -> None:
    """Task 0: right, right, wrong. Task 1: right, broken, broken."""
    said = {"q0": ["right", "right", "x"], "q1": ["right", "crash", "crash"]}
    accuracy = measured(
        lambda prompt, number: said["q0" if "q0" in prompt else "q1"][number], samples=3
    )
    assert accuracy.score == pytest.approx((2 / 3 + 1) / 2)
    assert accuracy.failed_fraction == pytest.approx(2 / 6)
    assert accuracy.pass_at(1) == pytest.approx((2 / 3 + 1) / 2)
    assert accuracy.pass_at(3) == 1  # of task 0 alone, of which three samples are sound
    assert accuracy.metrics() == {
        "score": accuracy.score,
        **ends(accuracy),
        "score_pass_at_k": 1.0,
        "score_failed_fraction": accuracy.failed_fraction,
        "score_failed_tasks": 0,
    }


def test_a_task_without_a_sound_episode_is_left_out() -> None:
    accuracy = measured(lambda prompt, n: "crash" if "q1" in prompt else ["right", "x"][n])
    assert (accuracy.score, accuracy.failed_fraction, accuracy.failed_tasks) == (0.5, 0.5, 1)
    accuracy = measured(lambda _, number: ["crash", "right"][number])
    assert accuracy.pass_at(2) is None
    assert accuracy.metrics() == {
        "score": 1.0,
        **ends(accuracy),
        "score_failed_fraction": 0.5,
        "score_failed_tasks": 0,
    }


def test_an_evaluation_in_which_the_environment_always_fails_measures_nothing() -> None:
    def said(*words: str) -> Accuracy:
        return measured(lambda _, number: words[number])

    said("crash", "right").require_measured()
    said("right...", "right...").require_measured()
    told = r"could be judged: {}\. The first one: KeyError: 'no such"
    with pytest.raises(UserError, match=told.format("4 failed")):
        said("crash", "crash").require_measured()
    cut = "2 failed and 2 were cut short before the environment was called"
    with pytest.raises(UserError, match=told.format(cut)):
        said("right...", "crash").require_measured()
    assert said("right...", "crash").metrics() == {
        "score_failed_fraction": 0.5,
        "score_failed_tasks": 0,
    }


def test_a_task_that_leaves_no_room_to_answer_earns_nothing_and_asks_nothing() -> None:
    assert measured(lambda *_: "right", environment=LongQuiz(1)).score == 0.5
    with pytest.raises(UserError, match="could be judged: 2 failed"):
        measured(lambda *_: "crash", environment=LongQuiz(1)).require_measured()


def ends(accuracy: Accuracy) -> dict[str, float]:
    """The interval of the score under the names of its metrics."""
    assert accuracy.interval is not None
    return {"score_low": accuracy.interval.low, "score_high": accuracy.interval.high}


def test_a_task_counts_once_in_the_interval_however_many_answers_it_has() -> None:
    def alike(samples: int) -> Accuracy:
        return measured(lambda prompt, _: "right" if "q1" in prompt else "x", samples=samples)

    assert alike(2).score == alike(8).score == 0.5
    assert alike(2).interval == alike(8).interval is not None
