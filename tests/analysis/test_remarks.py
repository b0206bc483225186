"""What is worth a look beside the diagnosis, and what is not."""

from dataclasses import replace

import numpy as np
import pytest
from tests.analysis.diagnosed_runs import stage

from steadyrl.analysis.remarks import remarks_of
from steadyrl.analysis.series import Series, Stage


def test_values_that_are_not_finite_are_counted_and_placed() -> None:
    found = remarks_of([stage(gradient_norm=[1.0, np.nan, np.inf, 1.0], reward=[0.1] * 4)])

    assert found == ("Gradient norm: not finite at 2 of 4 steps, the first being step 2.",)


def test_layers_that_are_not_finite_are_found_too() -> None:
    table = np.array([[0.1, 0.2], [0.1, np.nan]])
    layers = Series(name="routing_disagreement_per_layer", steps=np.array([3, 4]), values=table)
    found = remarks_of([Stage(name="rl", last_step=4, metrics={layers.name: layers})])

    assert found == (
        "Routing disagreement by layer: not finite at 1 of 2 steps, the first being step 4.",
    )


@pytest.mark.parametrize(
    ("metric", "values", "finding"),
    [
        (
            "reward",
            [0.6, 0.5, 0.4, 0.3, 0.2, 0.1],
            "Training reward: it ends lower than it began (0.6 to 0.1).",
        ),
        (
            "entropy",
            [0.5, 0.1, 0.05, 0.02, 0.01, 0.01],
            "Entropy: it fell to less than a tenth (0.5 to 0.01).",
        ),
    ],
)
def test_trouble_is_found(metric: str, values: list[float], finding: str) -> None:
    (found,) = remarks_of([stage(**{metric: values})])

    assert finding in found


@pytest.mark.parametrize(
    ("metric", "values"),
    [
        ("reward", [0.6, 0.6, 0.6, 0.6, 0.6, 0.59]),
        ("reward", [0.6, 0.1]),
        ("reward", [0.6, 0.1, 0.5, 0.2, 0.6, 0.2]),
        ("entropy", [0.5, 0.4, 0.3, 0.2, 0.1, 0.06]),
        ("entropy", [0.5, 0.01]),
    ],
)
def test_health_is_not_reported_as_trouble(metric: str, values: list[float]) -> None:
    found = remarks_of([stage(**{metric: values})])

    assert found == ()


@pytest.mark.parametrize(
    ("scores", "width", "finding"),
    [
        ([0.5, 0.2], 0.1, "the last one lies below the one before training"),
        ([0.5, 0.45], 0.1, None),
        ([0.1, 0.9, 0.3], 0.1, "more than half of the gain is lost since its best, 0.9 at step 2"),
        ([0.1, 0.9, 0.6], 0.1, None),
        ([0.1, 0.3, 0.15], 0.15, None),
        ([0.5, 0.2], None, None),
    ],
)
def test_a_score_has_fallen_if_its_intervals_prove_it(
    scores: list[float], width: float | None, finding: str | None
) -> None:
    # Ends of a difference of two scores: the root of the sum of both squared half-widths.
    ends = {} if width is None else {"score_low": width, "score_high": -width}
    bounds = {name: [score - half for score in scores] for name, half in ends.items()}
    found = remarks_of([stage(score=scores, **bounds)])

    assert found == (() if finding is None else (f"Held-out score: {finding}.",))


@pytest.mark.parametrize(("loss", "tasks", "is_told"), [(1.0, 1, False), (1.0, 8, True)])
def test_a_loss_on_few_tasks_is_not_told(loss: float, tasks: int, is_told: bool) -> None:
    before = {f"task/{number}": 1.0 for number in range(tasks)}
    after = {task: score - loss for task, score in before.items()}
    lost = replace(stage(score=[1.0, 0.0]), task_scores={1: before, 2: after})

    assert bool(remarks_of([lost])) == is_told


def test_a_cold_start_may_sharpen_without_being_called_collapsed() -> None:
    assert remarks_of([stage("cold_start", entropy=[3.0, 0.05])]) == ()
