"""Borders of a dose, against runs whose border is known."""

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import norm

from steadyrl.lab.borders import LAPSE, SPREADS, Border, Effect, Posterior, effect, factor

DOSES = tuple(0.125 * 2 ** (step / 2) for step in range(11))


def test_without_a_run_nothing_is_known_and_the_middle_dose_is_first() -> None:
    posterior = Posterior(DOSES, [])
    border = posterior.border

    assert (border.low, border.dose, border.high) == (0.0, pytest.approx(DOSES[5]), np.inf)
    assert not border.is_known
    assert posterior.next_dose() == DOSES[5]


def test_the_posterior_is_bayes_rule() -> None:
    """The odds of two borders after two runs, by hand for one spread after the other."""
    outcomes = [(0.5, False), (1.0, True)]
    posterior = Posterior(DOSES, outcomes)

    def likelihood(border: float) -> float:
        def chance(dose: float) -> np.ndarray:
            return LAPSE + (1 - 2 * LAPSE) * norm.cdf(np.log2(dose / border) / SPREADS)

        return float((1 - chance(0.5)) @ chance(1.0))

    grid = np.arange(-5, 4.01, 0.125)
    weights = np.array([likelihood(2**step) for step in grid])
    mean = weights @ grid / weights.sum()
    assert posterior.deviation == pytest.approx(
        np.sqrt(weights @ (grid - mean) ** 2 / weights.sum())
    )


def test_the_interval_holds_the_true_border_as_often_as_it_says() -> None:
    """Borders and spreads drawn within the prior; each design ends by its own rule."""
    generator = np.random.default_rng(0)
    held, taken, trials = 0, 0, 60
    for _ in range(trials):
        border, spread = np.exp2(generator.uniform(-2.5, 1.5)), generator.uniform(0.2, 1.0)
        outcomes: list[tuple[float, bool]] = []
        posterior = Posterior(DOSES, outcomes)
        while len(outcomes) < 24 and not posterior.border.is_known:
            dose = posterior.next_dose()
            chance = ndtr(np.log2(dose / border) / spread)
            outcomes.append((dose, bool(generator.random() < chance)))
            posterior = Posterior(DOSES, outcomes)
        held += posterior.border.low <= border <= posterior.border.high
        taken += len(outcomes)

    assert held / trials > 0.88
    assert taken / trials < 22


@pytest.mark.parametrize(("shown", "open_end"), [(True, 0.0), (False, np.inf)])
def test_a_border_outside_the_doses_is_open_and_known(shown: bool, open_end: float) -> None:
    edge = DOSES[0] if shown else DOSES[-1]
    border = Posterior(DOSES, [(edge, shown)] * 8).border

    assert (border.low, border.dose, border.high) == (open_end, open_end, open_end)
    assert border.is_known


def test_runs_gather_at_the_border() -> None:
    outcomes: list[tuple[float, bool]] = []
    for _ in range(16):
        dose = Posterior(DOSES, outcomes).next_dose()
        outcomes.append((dose, dose > 0.8))
    last = [dose for dose, _ in outcomes[-6:]]

    assert all(0.3 < dose < 2.2 for dose in last)
    assert Posterior(DOSES, outcomes).border.dose == pytest.approx(0.8, rel=0.25)


def test_a_remedy_works_when_the_intervals_lie_apart() -> None:
    none = Border(dose=0.3, low=0.25, high=0.4)

    assert effect(Border(dose=1.0, low=0.5, high=np.inf), none) is Effect.WORKS
    assert effect(Border(dose=0.5, low=0.3, high=0.9), none) is Effect.UNDECIDED
    assert effect(Border(dose=0.1, low=0.0, high=0.2), none) is Effect.HARMS


def test_a_factor_is_of_the_ends_of_both_intervals() -> None:
    none = Border(dose=0.3, low=0.25, high=0.4)

    three = factor(Border(dose=0.9, low=0.6, high=1.0), none)
    above = factor(Border(dose=np.inf, low=2.0, high=np.inf), none)

    assert three is not None
    assert above is not None
    assert (three.dose, three.low, three.high) == pytest.approx((3.0, 1.5, 4.0))
    assert (above.dose, above.low, above.high) == pytest.approx((np.inf, 5.0, np.inf))
    assert factor(none, Border(dose=0.3, low=0.0, high=0.4)) is None
