"""Diagrams of two dials: which runs they share with single dials, and what is drawn."""

from pathlib import Path

import pytest

from steadyrl.lab.catalog import DOSE_STUDIES
from steadyrl.lab.configurations import identity
from steadyrl.lab.dose import DoseStudy, Runs
from steadyrl.lab.dose_diagram import DiagramStudy
from steadyrl.lab.dose_findings import Mismatch, dose_of_k3
from steadyrl.lab.dose_results import write_dose_results
from steadyrl.lab.study import changed
from steadyrl.policies.numerics import Numerics
from tests.lab.test_dose import followed

DIAGRAMS = {
    name: study
    for name, make in DOSE_STUDIES.items()
    if isinstance(study := make(Numerics.FLOAT32), DiagramStudy)
}
EVERY_DIAGRAM = pytest.mark.parametrize("study", DIAGRAMS.values(), ids=DIAGRAMS)


def configurations(study: DoseStudy) -> set[str]:
    return {identity(changed(condition.config, seed=0)) for condition in study.conditions}


@EVERY_DIAGRAM
def test_columns_share_runs_with_the_single_dials_and_not_with_each_other(
    study: DiagramStudy,
) -> None:
    single = configurations(DOSE_STUDIES["dose"](Numerics.FLOAT32))
    columns = [configurations(study.of(dial)) for dial in study.dials]

    assert len(columns) == len(study.diagram.doses)
    assert sum(column <= single for column in columns) == 1
    assert len(configurations(study)) == sum(map(len, columns))
    assert all(len(dial.remedies) == 2 for dial in study.dials)


@EVERY_DIAGRAM
def test_a_column_differs_from_another_in_the_second_dial_alone(study: DiagramStudy) -> None:
    first, *others = (dial.control.model_dump() for dial in study.dials)
    blocks = {"optimizer", "algorithm", "steps", "evaluate_every", "journal"}
    for other in others:
        assert {name for name in first if other[name] != first[name]} <= blocks
        assert other["engine"] == first["engine"]


def test_a_border_that_falls_from_column_to_column_is_drawn(tmp_path: Path) -> None:
    study = DIAGRAMS["diagram-routing-noise"]
    borders = (2.0, 1.0, 0.3)
    runs: Runs = {}
    for dial, border in zip(study.dials, borders, strict=True):
        runs |= followed(study.of(dial), lambda _, dose, at=border: 0.3 if dose > at else 0.8)
    findings = write_dose_results(study, runs, tmp_path)

    found = [f.border.dose for f in findings if f.remedy == "R3" and f.event == "loses"]
    assert found == pytest.approx(borders, rel=0.3)
    drawn = (tmp_path / "diagram.svg").read_text()
    assert all(f"<!-- {dose:g} -->" in drawn for dose in study.diagram.doses)
    assert "(diagram.svg)" in (tmp_path / "README.md").read_text()


def test_a_mismatch_between_two_doses_lies_between_them() -> None:
    measured = [Mismatch(dose=d, k3=k3, disagreement=None) for d, k3 in ((1.0, 1e-4), (4.0, 1e-2))]

    assert dose_of_k3(measured, 1e-3) == pytest.approx(2.0)
    assert dose_of_k3(measured, 1.0) is None
    assert dose_of_k3([], 1e-3) is None
