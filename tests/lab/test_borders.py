"""Borders of a dose, against responses whose border is known."""

import numpy as np
import pytest
from scipy.optimize import isotonic_regression

from steadyrl.lab.borders import Border, Effect, border_of, effect, isotonic

DOSES = np.array([0.25, 0.5, 1.0, 2.0])


def lost(means: list[float], spread: float = 0.0, seeds: int = 5) -> np.ndarray:
    """Losses with exactly these means, and this standard deviation over seeds."""
    noise = np.linspace(-1, 1, seeds)
    noise *= spread / noise.std(ddof=1)
    return np.array(means)[:, None] + noise


def test_a_border_is_read_on_the_logarithmic_axis_between_two_doses() -> None:
    # 0.05 is half way from 0.02 to 0.08, so the border is half way from 0.5 to 1 in log2.
    border = border_of(DOSES, lost([0.0, 0.02, 0.08, 0.3]))

    assert border.dose == pytest.approx(2**-0.5)
    assert border.low == pytest.approx(border.dose)
    assert border.high == pytest.approx(border.dose)


def test_a_border_outside_the_doses_is_open() -> None:
    assert border_of(DOSES, lost([0.1, 0.2, 0.3, 0.4])).dose == 0.0
    assert border_of(DOSES, lost([0.0, 0.01, 0.0, 0.02])).dose == np.inf


def test_a_dip_is_averaged_with_its_neighbours() -> None:
    # Isotonic regression pools 0.06 and 0.02 to 0.04, which is below the loss.
    border = border_of(DOSES, lost([0.0, 0.06, 0.02, 0.09]))

    assert border.dose == pytest.approx(2.0 ** ((0.05 - 0.04) / (0.09 - 0.04)))


def test_the_interval_holds_the_true_border_as_often_as_it_says() -> None:
    """Losses that rise by 0.04 a doubling from 0.01 at dose 0.25, with Gaussian seeds."""
    generator = np.random.default_rng(0)
    means = np.array([0.01, 0.05, 0.09, 0.13])
    held = 0
    trials = 200
    for trial in range(trials):
        sample = means[:, None] + 0.02 * generator.standard_normal((4, 5))
        border = border_of(DOSES, sample, seed=trial)
        held += border.low <= 0.5 <= border.high

    assert held / trials > 0.9


def test_a_remedy_works_when_the_intervals_lie_apart() -> None:
    none = Border(dose=0.3, low=0.25, high=0.4)

    assert effect(Border(dose=1.0, low=0.5, high=np.inf), none) is Effect.WORKS
    assert effect(Border(dose=0.5, low=0.3, high=0.9), none) is Effect.UNDECIDED
    assert effect(Border(dose=0.1, low=0.0, high=0.2), none) is Effect.HARMS


def test_the_rising_fit_is_that_of_scipy() -> None:
    rows = np.random.default_rng(0).standard_normal((200, 6))
    expected = [isotonic_regression(row).x for row in rows]

    np.testing.assert_allclose(isotonic(rows), expected, atol=1e-12)
