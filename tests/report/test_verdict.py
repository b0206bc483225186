from typing import Any

import numpy as np
import pytest

from steadyrl.report.run_data import LayerSeries, RunData, Series, Stage
from steadyrl.report.verdict import ends, verdict


def run(stage: str = "rl", first_step: int = 1, **metrics: Any) -> RunData:
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
    return RunData(
        name="run",
        config="",
        manifest={},
        stages=(Stage(name=stage, last_step=last, metrics=series),),
    )


def test_ends_are_the_means_of_the_first_and_last_tenth() -> None:
    values = np.concatenate([[1.0, 3.0], np.full(16, 100.0), [5.0, 6.0]])

    assert ends(values) == (2.0, 5.5)
    assert ends(np.array([4.0])) == (4.0, 4.0)


def test_the_score_is_told_from_before_training_to_the_last_evaluation() -> None:
    facts = verdict(run(first_step=0, score=[0.1, 0.3, 0.58])).facts

    assert facts[0] == (
        "The held-out score rose from 0.1 before training (step 0) to 0.58 at step 2."
    )


def test_a_score_is_told_with_its_interval() -> None:
    ends = {"score_low": [0.05, 0.4], "score_high": [0.2, 0.7]}
    facts = verdict(run(first_step=0, score=[0.1, 0.58], **ends)).facts

    assert facts[0] == (
        "The held-out score rose from 0.1 (95% interval 0.05 to 0.2) before training (step 0) to "
        "0.58 (95% interval 0.4 to 0.7) at step 1."
    )


def test_the_best_score_is_told_when_it_is_not_the_last() -> None:
    facts = verdict(run(first_step=0, score=[0.1, 0.7, 0.6])).facts

    assert facts[0].endswith("to 0.6 at step 2; its best was 0.7 at step 1.")


def test_a_score_taken_once_is_not_a_trend() -> None:
    assert verdict(run(first_step=0, score=[0.1])).facts[0] == (
        "The held-out score was 0.1 before training (step 0); it was taken once."
    )


def test_time_is_the_sum_of_the_steps() -> None:
    assert verdict(run(seconds=[1800.0, 2520.0])).facts == (
        "The run has finished 2 steps of reinforcement learning, in 1 h 12 min.",
    )


def test_reward_and_entropy_are_told_as_means_over_a_tenth() -> None:
    reward = [0.0, 0.2] + [0.5] * 16 + [0.6, 0.8]
    facts = verdict(run(reward=reward, entropy=[0.5] * 10 + [0.25] * 10)).facts

    assert facts[-1] == (
        "From the first to the last tenth of its steps the mean training reward went from 0.1 to "
        "0.7 and the mean entropy went from 0.5 to 0.25."
    )


def test_values_that_are_not_finite_are_counted_and_placed() -> None:
    judged = verdict(run(gradient_norm=[1.0, np.nan, np.inf, 1.0], reward=[0.1, 0.2, 0.3, 0.4]))

    assert judged.findings == (
        "Gradient norm: not finite at 2 of 4 steps, the first being step 2.",
    )


def test_layers_that_are_not_finite_are_found_too() -> None:
    table = np.array([[0.1, 0.2], [0.1, np.nan]])
    layers = LayerSeries(
        name="routing_disagreement_per_layer", steps=np.array([3, 4]), values=table
    )
    stage = Stage(name="rl", last_step=4, metrics={layers.name: layers})
    judged = verdict(RunData(name="run", config="", manifest={}, stages=(stage,)))

    assert judged.findings == (
        "Routing disagreement by layer: not finite at 1 of 2 steps, the first being step 4.",
    )


def test_values_that_are_not_finite_do_not_spoil_the_facts() -> None:
    facts = verdict(run(reward=[0.25, np.nan, 0.5])).facts

    assert "went from 0.25 to 0.5" in facts[-1]


@pytest.mark.parametrize(
    ("metric", "values", "finding"),
    [
        ("score", [0.5, 0.4], "Held-out score: the last one lies below the one before training."),
        (
            "score",
            [0.1, 0.9, 0.4],
            "Held-out score: more than half of the gain is lost since its best",
        ),
        ("reward", [0.6, 0.1], "Training reward: it ends lower than it began (0.6 to 0.1)."),
        ("entropy", [0.5, 0.01], "Entropy: it fell to less than a tenth (0.5 to 0.01)."),
        ("mismatch_kl_k3", [0.001, 0.02], "it rose more than tenfold (0.001 to 0.02)."),
        ("extreme_token_fraction", [0.0, 0.2, 0.0], "it reached 0.2 at step 2, above 0.1."),
        ("ess", [0.99, 0.3], "Effective sample size: it ends at 0.3, below 0.5."),
        ("no_signal_fraction", [0.5, 0.95], "it ends at 0.95, above 0.9."),
        ("gradient_norm", [0.1, 2.0], "Gradient norm: it rose more than tenfold (0.1 to 2)."),
    ],
)
def test_trouble_is_found(metric: str, values: list[float], finding: str) -> None:
    (found,) = verdict(run(**{metric: values})).findings

    assert finding in found


@pytest.mark.parametrize(
    ("metric", "values"),
    [
        ("score", [0.1, 0.9, 0.6]),
        ("reward", [0.6, 0.59]),
        ("entropy", [0.5, 0.06]),
        ("mismatch_kl_k3", [0.0, 0.0]),
        ("extreme_token_fraction", [0.0, 0.09]),
        ("ess", [0.3, 0.6]),
        ("no_signal_fraction", [0.95, 0.5]),
        ("gradient_norm", [0.1, 0.9]),
    ],
)
def test_health_is_not_reported_as_trouble(metric: str, values: list[float]) -> None:
    judged = verdict(run(**{metric: values}))

    assert judged.findings == ()
    assert len(judged.checked) == 1


def test_a_cold_start_may_sharpen_without_being_called_collapsed() -> None:
    assert verdict(run(stage="cold_start", entropy=[3.0, 0.05])).findings == ()
