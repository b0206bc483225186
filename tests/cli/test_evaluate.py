"""What `steadyrl evaluate` measures, and what it says of it."""

import pytest

from steadyrl.cli.evaluate import (
    EvaluateOptions,
    choose_evaluation,
    compare,
    describe,
)
from steadyrl.engines.driver import drive
from steadyrl.engines.protocol import Sampling
from steadyrl.environments.protocol import Split
from steadyrl.evaluation.accuracy import Accuracy, EvaluationSettings, measure_accuracy
from tests.rollout.fakes import TOKENIZER, Quiz, ScriptedEngine, Unreliable


def measured(*words: str) -> Accuracy:
    """Of one task, to which these are the answers."""
    return drive(
        measure_accuracy(
            EvaluationSettings(tasks=1, samples=len(words)),
            environment=Quiz(),
            engine=ScriptedEngine(lambda _prompt, number, _call: words[number]),
            tokenizer=TOKENIZER,
            sampling=Sampling(max_new_tokens=8),
            seed=1,
        )
    )


def test_what_the_environment_broke_off_is_told_and_not_counted() -> None:
    assert describe("rl-000002", measured("right", "x"), requested=1) == [
        "rl-000002, 1 test tasks: avg@2 0.500, pass@2 1.000"
    ]
    assert describe("rl-000002", measured("right", "x", "crash", "right"), requested=1) == [
        "rl-000002, 1 test tasks: avg@4 0.667, pass@4 not measured",
        "The environment failed in 25.0% of the episodes, which are left out; pass@4 is of tasks "
        "in which it never did.",
    ]


def test_tasks_that_failed_are_counted_and_are_not_in_the_score() -> None:
    environment = Unreliable(tasks=[1])
    accuracy = drive(
        measure_accuracy(
            EvaluationSettings(tasks=3, samples=2),
            environment=environment,
            engine=ScriptedEngine(lambda *_: "right"),
            tokenizer=TOKENIZER,
            sampling=Sampling(max_new_tokens=8),
            seed=1,
        )
    )
    assert describe("rl-000002", accuracy, requested=3) == [
        # Of two tasks: 2 / (2 + z^2) and 1.
        "rl-000002, 3 test tasks: avg@2 1.000 (95% interval 0.342 to 1.000), pass@2 1.000",
        "The environment failed in 33.3% of the episodes, which are left out; pass@2 is of tasks "
        "in which it never did.",
        "1 of 3 tasks failed in every episode: they are not in the score.",
    ]
    assert accuracy.metrics() == {
        "score": 1.0,
        "score_low": pytest.approx(2 / (2 + 1.96**2)),
        "score_high": pytest.approx(1.0),
        "score_pass_at_k": 1.0,
        "score_failed_fraction": 2 / 6,
        "score_failed_tasks": 1,
    }


def test_what_is_not_asked_for_is_as_in_the_run() -> None:
    own = EvaluationSettings(split=Split.VALIDATION, tasks=500, samples=16, temperature=0.6)
    assert choose_evaluation(EvaluateOptions(), own) == own
    options = EvaluateOptions(split=Split.TEST, samples=8)
    changes = {"split": Split.TEST, "samples": 8}
    assert choose_evaluation(options, own) == own.model_copy(update=changes)


def digits(prompt: str) -> str:
    return "".join(letter for letter in prompt if letter.isdigit())


def scored(*tasks: tuple[str, ...]) -> Accuracy:
    """Of as many tasks, to which these are the answers."""
    return drive(
        measure_accuracy(
            EvaluationSettings(tasks=len(tasks), samples=len(tasks[0])),
            environment=Quiz(),
            engine=ScriptedEngine(lambda prompt, number, _call: tasks[int(digits(prompt))][number]),
            tokenizer=TOKENIZER,
            sampling=Sampling(max_new_tokens=8),
            seed=1,
        )
    )


def test_scores_on_the_same_tasks_are_compared_with_an_interval() -> None:
    before = scored(("x", "x"), ("x", "right"), ("x", "x"), ("right", "right"))
    after = scored(("right", "x"), ("right", "right"), ("x", "x"), ("right", "right"))
    # Gains of 1/2, 1/2, 0, 0: mean 1/4, standard deviation sqrt(1/12), of the mean sqrt(1/48).
    assert compare("a", before, "b", after) == (
        "b against a: +0.250 (95% interval -0.033 to +0.533, over 4 tasks)"
    )
    assert compare("a", measured("x"), "b", measured("right")) == "b against a: +1.000"
