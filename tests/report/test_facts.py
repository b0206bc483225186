from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from steadyrl.analysis.series import Series, Stage, ends
from steadyrl.report.facts import facts_of


def run(stage: str = "rl", first_step: int = 1, **metrics: Any) -> list[Stage]:
    """A run of one stage with the given values at steps 1, 2, 3, ..."""
    series = {
        name: Series(
            name=name,
            steps=np.arange(first_step, first_step + len(values)),
            values=np.array(values, dtype=np.float64),
        )
        for name, values in metrics.items()
    }
    last = max(int(one.steps.max()) for one in series.values())
    return [Stage(name=stage, last_step=last, metrics=series)]


def test_ends_are_the_means_of_the_first_and_last_tenth() -> None:
    values = np.concatenate([[1.0, 3.0], np.full(16, 100.0), [5.0, 6.0]])

    assert ends(values) == (2.0, 5.5)
    assert ends(np.array([4.0])) == (4.0, 4.0)


def test_the_score_is_told_from_before_training_to_the_last_evaluation() -> None:
    facts = facts_of(run(first_step=0, score=[0.1, 0.3, 0.58]))

    assert facts[0] == (
        "The held-out score went from 0.1 before training (step 0) to 0.58 at step 2."
    )


def test_a_score_is_told_with_its_interval() -> None:
    ends = {"score_low": [0.05, 0.4], "score_high": [0.2, 0.7]}
    facts = facts_of(run(first_step=0, score=[0.1, 0.58], **ends))

    assert facts[0] == (
        "The held-out score rose from 0.1 (95% interval 0.05 to 0.2) before training (step 0) to "
        "0.58 (95% interval 0.4 to 0.7) at step 1 (95% interval of the change 0.274 to 0.61)."
    )


@pytest.mark.parametrize(
    ("gains", "word", "clause"),
    [
        ([1.0, 0.5, 1.0, 0.5, 1.0, 0.5], "rose", "(95% interval of the change 0.531 to 0.969)."),
        ([-1.0, 0.5, -1.0, 0.5, 0.0, 0.5], "went", ", a change that noise explains (95% interval"),
        ([-1.0, -0.5] * 3, "fell", "(95% interval of the change \N{MINUS SIGN}0.969 to"),
        ([1.0] * 5, "went", "to 0.5 at step 1."),
    ],
)
def test_a_direction_is_claimed_only_where_the_same_tasks_prove_it(
    gains: list[float], word: str, clause: str
) -> None:
    # Mean of the gains m = 0.75, standard error 0.2739 / sqrt(6) = 0.1118, so m +- 1.96 of it.
    (stage,) = run(first_step=0, score=[0.4, 0.5])
    before = {f"task/{number}": 0.0 for number in range(len(gains))}
    after = dict(zip(before, gains, strict=True))
    (fact, *_) = facts_of([replace(stage, task_scores={0: before, 1: after})])

    assert fact.startswith(f"The held-out score {word} from 0.4 ")
    assert clause in fact


def test_the_best_score_is_told_when_it_is_not_the_last() -> None:
    facts = facts_of(run(first_step=0, score=[0.1, 0.7, 0.6]))

    assert facts[0].endswith("to 0.6 at step 2; its best was 0.7 at step 1.")


def test_a_score_taken_once_is_not_a_trend() -> None:
    assert facts_of(run(first_step=0, score=[0.1]))[0] == (
        "The held-out score was 0.1 before training (step 0); there was one evaluation."
    )


def test_time_is_the_sum_of_the_steps() -> None:
    assert facts_of(run(seconds=[1800.0, 2520.0])) == (
        "The run has finished 2 steps of reinforcement learning, in 1 h 12 min.",
    )


def test_reward_and_entropy_are_told_as_means_over_a_tenth() -> None:
    reward = [0.0, 0.2] + [0.5] * 16 + [0.6, 0.8]
    facts = facts_of(run(reward=reward, entropy=[0.5] * 10 + [0.25] * 10))

    assert facts[-1] == (
        "From the first to the last tenth of the steps of reinforcement learning the mean training "
        "reward went from 0.1 to 0.7 and the mean entropy went from 0.5 to 0.25."
    )


def test_each_stage_is_named_with_its_entropy() -> None:
    stages = [*run("cold_start", entropy=[2.0, 1.0]), *run(entropy=[1.0, 0.5])]
    courses = facts_of(stages)[-2:]

    assert [course.partition(" the mean")[0] for course in courses] == [
        "From the first to the last step of cold start",
        "From the first to the last step of reinforcement learning",
    ]


def test_values_that_are_not_finite_do_not_spoil_the_facts() -> None:
    facts = facts_of(run(reward=[0.25, np.nan, 0.5]))

    assert "went from 0.25 to 0.5" in facts[-1]
