"""The test of the rule: predictions, and how often they are right."""

import json
from pathlib import Path

from steadyrl.analysis.remedy_rule import Origin, RemedyRule
from steadyrl.lab.catalog import RULE_STUDIES
from steadyrl.lab.records import RunRecord
from steadyrl.lab.rule_predictions import MEND, needs, predictions
from steadyrl.lab.rule_results import write_rule_results
from steadyrl.policies.numerics import Numerics
from tests.lab.made_up import record

STUDY = RULE_STUDIES["rule"](Numerics.FLOAT32).quick()
(DIAL,) = STUDY.dials
RULE = RemedyRule(limits={Origin.ROUTING: {"none": 0.1, "r3": 1.0}}, split=(-9.0, 0.0))
Runs = dict[str, dict[int, RunRecord]]


def run(mismatch: float, final: float) -> RunRecord:
    made = record([0.5] * 8, scores=[(0, 0.3), (64, final)], gradient_steps=64, mismatch=mismatch)
    made.curves["routing_disagreement"] = [0.3] * 8
    return made


def ran() -> tuple[Runs, Runs]:
    """At 0.05 nothing is lost; at 0.5 only R3 keeps its score; at 2 none does."""
    (seed,) = STUDY.seeds
    runs: Runs = {condition.name: {} for condition in STUDY.conditions}
    for dose, mismatch, kept in zip(
        DIAL.doses, (0.05, 0.5, 2.0), ((True, True), (False, True), (False, False)), strict=False
    ):
        for remedy, keeps in zip(("no replay", "R3"), kept, strict=True):
            runs[DIAL.at(remedy, dose)][seed] = run(mismatch, 0.8 if keeps else 0.5)
    return runs, {DIAL.control_name: {0: run(1e-12, 0.8)}}


def test_predictions_read_the_run_without_a_remedy() -> None:
    runs, controls = ran()
    found = predictions(STUDY, RULE, runs, controls)

    assert [(each.remedy, each.keeps, each.kept) for each in found] == [
        ("no replay", True, True),
        ("R3", True, True),
        ("no replay", False, False),
        ("R3", True, True),
        ("no replay", False, False),
        ("R3", False, False),
    ]
    assert needs(found) == [("nothing", "nothing"), ("R3", "R3"), (MEND, MEND)]


def test_the_page_counts_predictions(tmp_path: Path) -> None:
    runs, controls = ran()
    write_rule_results(STUDY, RULE, runs, controls, tmp_path)
    page = (tmp_path / "README.md").read_text()
    content = json.loads((tmp_path / "results.json").read_text())

    assert "| routing noise | 3 | 0 | 0 | 3 | 6 of 6, 100% (61% to 100%) |" in page
    assert "| the more frequent outcome | 3 of 6, 50% (19% to 81%) |" in page
    assert content["correct"]["mismatch k3 above 0.05 loses"] == [5, 6]
    assert len(content["predictions"]) == 6
    assert "<svg" in (tmp_path / "figure.svg").read_text()


def test_controls_that_solve_nothing_make_the_test_void(tmp_path: Path) -> None:
    runs, _ = ran()
    for final, void in ((0.8, False), (0.04, True)):
        controls = {DIAL.control_name: {0: run(1e-12, final)}}
        write_rule_results(STUDY, RULE, runs, controls, tmp_path)
        page = (tmp_path / "README.md").read_text()

        assert f"Final score of the controls: {final:.3f} (routing noise)." in page
        assert ("**Void for routing noise**" in page) is void
