"""What is worth a look beside the diagnosis, and what is not."""

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
        ("score", [0.5, 0.4], "Held-out score: the last one lies below the one before training."),
        (
            "score",
            [0.1, 0.9, 0.4],
            "Held-out score: more than half of the gain is lost since its best",
        ),
        ("reward", [0.6, 0.1], "Training reward: it ends lower than it began (0.6 to 0.1)."),
        ("entropy", [0.5, 0.01], "Entropy: it fell to less than a tenth (0.5 to 0.01)."),
    ],
)
def test_trouble_is_found(metric: str, values: list[float], finding: str) -> None:
    (found,) = remarks_of([stage(**{metric: values})])

    assert finding in found


@pytest.mark.parametrize(
    ("metric", "values"),
    [
        ("score", [0.1, 0.9, 0.6]),
        ("reward", [0.6, 0.59]),
        ("entropy", [0.5, 0.06]),
    ],
)
def test_health_is_not_reported_as_trouble(metric: str, values: list[float]) -> None:
    found = remarks_of([stage(**{metric: values})])

    assert found == ()


def test_a_cold_start_may_sharpen_without_being_called_collapsed() -> None:
    assert remarks_of([stage("cold_start", entropy=[3.0, 0.05])]) == ()
