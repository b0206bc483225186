"""Studies of a dial: what is run, and what becomes of it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from steadyrl.lab.catalog import STUDIES
from steadyrl.lab.dose import CONTROL, DoseStudy, at
from steadyrl.lab.records import RunRecord
from steadyrl.lab.results import write_results
from steadyrl.policies.numerics import Numerics
from tests.lab.made_up import record

DIALS = ("dose-routing-noise", "dose-weight-noise")


def study_of(name: str) -> DoseStudy:
    study = STUDIES[name](Numerics.FP8)
    assert isinstance(study, DoseStudy)
    return study


@pytest.mark.parametrize("name", DIALS)
def test_a_border_takes_at_most_24_runs_besides_the_control(name: str) -> None:
    study = study_of(name)

    assert len(study.conditions) == 1 + len(study.remedies) * len(study.doses)
    assert len(study.doses) * len(study.seeds) <= 24
    assert list(study.doses) == sorted(study.doses)


@pytest.mark.parametrize("name", DIALS)
def test_conditions_differ_in_dose_and_remedy_alone(name: str) -> None:
    study = study_of(name)
    configs = {condition.name: condition.config for condition in study.conditions}
    for remedy in study.remedies:
        first, *others = (configs[at(remedy, dose)] for dose in study.doses)
        assert not configs[CONTROL].engine.has_noise
        for config in others:
            assert config.engine.without_noise() == first.engine.without_noise()
            assert config.model_copy(update={"engine": first.engine}) == first


def scored(score: float, seeds: int) -> dict[int, RunRecord]:
    """A run for each seed that ends with `score` give or take a thousandth."""
    return {
        seed: record([0.5] * 20, seed=seed, scores=[(0, 0.1), (160, score + 0.001 * (-1) ** seed)])
        for seed in range(seeds)
    }


def test_results_tell_the_borders_and_what_the_remedies_do(tmp_path: Path) -> None:
    study = replace(study_of("dose-routing-noise"), seeds=(0, 1, 2, 3))
    lost = {"no replay": (0.02, 0.08, 0.2, 0.4), "R2": (0.1, 0.2, 0.3, 0.4), "R3": (0, 0, 0, 0.01)}
    runs = {CONTROL: scored(0.9, 4)}
    for remedy, values in lost.items():
        for dose, value in zip(study.doses, values, strict=True):
            runs[at(remedy, dose)] = scored(0.9 - value, 4)
    write_results(study, runs, tmp_path)
    borders = json.loads((tmp_path / "results.json").read_text())["borders"]
    page = (tmp_path / "README.md").read_text()

    # 0.05 is half way from 0.02 at 0.25 to 0.08 at 0.5 on the logarithmic axis.
    assert borders["no replay"]["dose"] == pytest.approx((0.25 * 0.5) ** 0.5, rel=1e-3)
    assert borders["R2"] == {"dose": "below", "low": "below", "high": "below", "effect": "harms"}
    assert borders["R3"] == {"dose": "above", "low": "above", "high": "above", "effect": "works"}
    assert "| R3 | above 2 | above 2 to above 2 |  | works |" in page
    assert (tmp_path / "figure.png").stat().st_size > 10_000
