"""The border dose at which an effect sets in, and its interval."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from jaxtyping import Float

from steadyrl.lab.dose import CONTROL, DoseStudy, at
from steadyrl.lab.measures import MEASURES
from steadyrl.lab.records import RunRecord

LOSS = 0.05
"""The border is the dose at which the final held-out score lies this far below that of dose 0."""

DRAWS = 10_000


class Effect(StrEnum):
    """Effect of a remedy on the border."""

    WORKS = "works"
    """Its border's interval lies above that without it."""

    HARMS = "harms"
    """Its border's interval lies below that without it."""

    UNDECIDED = "undecided"
    """The intervals overlap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Border:
    """The dose at which a loss of `LOSS` is reached.

    Below the smallest dose that was run it is 0, and infinite above the largest: an interval that
    reaches such a value is open on that side.
    """

    dose: float
    low: float
    """Lower end of the interval of 95%."""

    high: float


def losses(
    study: DoseStudy, runs: Mapping[str, Mapping[int, RunRecord]], remedy: str
) -> Float[np.ndarray, "D S"]:
    """The loss of each seed's final held-out score at each dose, against its run at dose 0.

    Only seeds with all of these runs are included.
    """
    names = [at(remedy, dose) for dose in study.doses]
    seeds = sorted(set.intersection(*(set(runs[name]) for name in (CONTROL, *names))))
    final = MEASURES["final_score"]
    return np.array(
        [[final(runs[CONTROL][seed]) - final(runs[name][seed]) for seed in seeds] for name in names]
    )


def border_of(
    doses: Float[np.ndarray, " D"], lost: Float[np.ndarray, "D S"], *, seed: int = 0
) -> Border:
    """The border of `lost` at rising `doses`, of two or more seeds.

    The mean loss at each dose is made to rise with the dose (isotonic regression), and read between
    doses on a logarithmic axis. For the interval each mean is drawn anew from its own Student
    distribution, `DRAWS` times.
    """
    count = lost.shape[1]
    means = lost.mean(axis=1)
    errors = lost.std(axis=1, ddof=1) / np.sqrt(count)
    generator = np.random.default_rng(seed)
    noise = generator.standard_t(count - 1, size=(DRAWS, len(doses)))
    (dose,), borders = crossings(doses, means[None]), crossings(doses, means + errors * noise)
    # Not interpolated: between a finite border and an infinite one there is nothing.
    low, high = np.quantile(borders, [0.025, 0.975], method="nearest")
    return Border(dose=float(dose), low=float(low), high=float(high))


def effect(remedy: Border, none: Border) -> Effect:
    """The effect of a remedy, from the intervals of the borders with and without it."""
    if remedy.low > none.high:
        return Effect.WORKS
    return Effect.HARMS if remedy.high < none.low else Effect.UNDECIDED


def borders_of(study: DoseStudy, runs: Mapping[str, Mapping[int, RunRecord]]) -> dict[str, Border]:
    """The border under each remedy that two or more seeds were run with."""
    lost = {remedy: losses(study, runs, remedy) for remedy in study.remedies}
    return {
        remedy: border_of(np.array(study.doses), values)
        for remedy, values in lost.items()
        if values.shape[1] >= 2
    }


def borders_as_json(study: DoseStudy, borders: Mapping[str, Border]) -> dict[str, Any]:
    """The borders for results.json. Outside the doses they are "below" or "above"."""
    none = borders.get(study.remedies[0])
    rows: dict[str, dict[str, Any]] = {}
    for remedy, border in borders.items():
        rows[remedy] = {name: _within(value) for name, value in asdict(border).items()}
        if none is not None and border is not none:
            rows[remedy]["effect"] = effect(border, none)
            if 0 < none.dose < np.inf and 0 < border.dose < np.inf:
                rows[remedy]["factor"] = round(border.dose / none.dose, 3)
    return {"dial": study.dial, "doses": study.doses, "loss": LOSS, "borders": rows}


def _within(dose: float) -> float | str:
    return round(dose, 4) if 0 < dose < np.inf else "below" if dose == 0 else "above"


def crossings(
    doses: Float[np.ndarray, " D"], means: Float[np.ndarray, "N D"]
) -> Float[np.ndarray, " N"]:
    """The first dose at which the rising fit of each row reaches `LOSS`; 0 or inf outside."""
    rising = isotonic(means)
    reached = rising >= LOSS
    above = np.maximum(reached.argmax(axis=1), 1)
    rows = np.arange(len(means))
    low, high = rising[rows, above - 1], rising[rows, above]
    steps = np.log(doses)
    share = (LOSS - low) / np.where(high > low, high - low, 1.0)
    inside = np.exp(steps[above - 1] + share * (steps[above] - steps[above - 1]))
    return np.where(reached[:, 0], 0.0, np.where(reached[:, -1], inside, np.inf))


def isotonic(means: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N D"]:
    """The nondecreasing rows nearest to `means`, by the max-min formula."""
    count = means.shape[1]
    sums = np.pad(means.cumsum(axis=1), ((0, 0), (1, 0)))
    fit = np.full(means.shape, -np.inf)
    for start in range(count):
        least = np.full(len(means), np.inf)
        for end in range(count - 1, start - 1, -1):
            least = np.minimum(least, (sums[:, end + 1] - sums[:, start]) / (end + 1 - start))
            fit[:, end] = np.maximum(fit[:, end], least)
    return fit
