"""From finished runs to verdicts, figures and tables."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from steadyrl.base.errors import UserError
from steadyrl.lab.claims import Claim, Verdict, collapses, greater, similar
from steadyrl.lab.records import RunRecord
from steadyrl.lab.results import as_json, judge, write_results
from steadyrl.lab.tables import study_page, update_page, verdicts_table
from tests.lab.made_up import record, study_of

BETTER = Claim(text="A beats B", source="here", comparisons=(greater("best_score", "A", "B"),))
ALIKE = Claim(
    text="A is B", source="our own: there", comparisons=(similar("best_score", "A", "B"),)
)
SOLID = Claim(text="A is solid", source="here", comparisons=(greater("kept", "A", 0.9),))
STUDY = study_of([BETTER, ALIKE, SOLID])


def runs(first: list[float], second: list[float]) -> dict[str, dict[int, RunRecord]]:
    """Runs with these best scores, one a seed."""
    return {
        name: {
            seed: record([0.5] * 20, seed=seed, scores=[(0, 0.1), (160, score)])
            for seed, score in enumerate(scores)
        }
        for name, scores in (("A", first), ("B", second))
    }


CLEAR = runs([0.5, 0.7, 0.9], [0.4, 0.6, 0.79])
"""Differences .10, .10, .11: mean .1033, s .00577, half 4.3027 * .00577 / √3 = .0143."""


def test_seeds_are_compared_with_themselves() -> None:
    better, alike, solid = judge(STUDY, CLEAR)
    assert better.findings[0].difference.mean == pytest.approx(0.10333, abs=1e-5)
    assert better.findings[0].difference.low == pytest.approx(0.10333 - 0.01434, abs=1e-4)
    assert better.verdict is Verdict.HOLDS
    assert alike.verdict is Verdict.FAILS
    # Constant reward keeps all of its peak: 1.0 in each seed, an interval of no width above 0.9.
    assert solid.verdict is Verdict.HOLDS


def test_runs_are_compared_over_the_time_that_both_took() -> None:
    # Over the second that A takes it goes from 0.1 to its score; B, of 2 seconds, gets half as far.
    sooner = Claim(
        text="A is sooner", source="here", comparisons=(greater("score_in_equal_time", "A", "B"),)
    )
    slow = {seed: replace(run, seconds=2.0) for seed, run in CLEAR["B"].items()}
    (judgment,) = judge(study_of([sooner]), {"A": CLEAR["A"], "B": slow})
    gained = [(0.4 - 0.15) / 2, (0.6 - 0.25) / 2, (0.8 - 0.345) / 2]
    assert judgment.findings[0].difference.mean == pytest.approx(sum(gained) / 3)


def test_only_seeds_that_both_have_are_compared() -> None:
    fewer = {"A": CLEAR["A"], "B": {1: CLEAR["B"][1]}}
    difference = judge(STUDY, fewer)[0].findings[0].difference
    assert difference.count == 1
    assert difference.mean == pytest.approx(0.1)


def test_results_hold_every_number_behind_a_verdict(tmp_path: Path) -> None:
    write_results(STUDY, CLEAR, tmp_path)
    content = json.loads((tmp_path / "results.json").read_text())

    assert content["claims"][0]["verdict"] == "holds"
    assert content["claims"][0]["comparisons"][0]["interval"] == [0.089, 0.1177]
    assert [run["best_score"] for run in content["conditions"]["B"]] == [0.4, 0.6, 0.79]
    assert content["commits"] == ["abc"]
    drawing = (tmp_path / "figure.svg").read_text()
    assert "<!-- A -->" in drawing
    write_results(STUDY, CLEAR, tmp_path)
    assert (tmp_path / "figure.svg").read_text() == drawing


def test_a_study_without_runs_says_so(tmp_path: Path) -> None:
    nothing: dict[str, dict[int, RunRecord]] = {"A": {}, "B": {}}
    judgments = write_results(STUDY, nothing, tmp_path)
    assert {judgment.verdict for judgment in judgments} == {Verdict.UNDECIDED}
    page = study_page(as_json(STUDY, nothing, judgments))
    assert "| A | 0 | not run | not run |" in page
    assert "`best_score`: A > B: not run" in page


def test_the_page_of_a_study_shows_means_and_verdicts() -> None:
    page = study_page(as_json(STUDY, CLEAR, judge(STUDY, CLEAR)))
    assert "| A | 3 | 0.700 ± 0.200 |" in page
    line = "| A beats B | here | **holds** | 3 | `best_score`: A > B: +0.103 (+0.089 to "
    assert line in page


def test_a_study_shows_its_own_measures_and_what_they_mean() -> None:
    study = replace(study_of([]), measures=("final_score", "retry_reward", "seconds"))
    reflecting = record([0.5] * 20)
    reflecting.curves["reward_reflected"] = [0.75] * 20
    page = study_page(as_json(study, {"A": {0: reflecting}, "B": {0: record([0.5] * 20)}}, []))
    assert "| condition | seeds | `final_score` | `retry_reward` | `seconds` |" in page
    assert "| A | 1 | 0.500 | 0.750 | 1.000 |" in page
    assert "| B | 1 | 0.500 | none | 1.000 |" in page
    assert "`retry_reward` is that of second attempts" in page
    assert "`kept`" not in page


def test_verdicts_of_one_experiment_stand_side_by_side(tmp_path: Path) -> None:
    reverse = {"A": CLEAR["B"], "B": CLEAR["A"]}
    for level, scores in (("fp8", CLEAR), ("int4", reverse)):
        study = replace(STUDY, level=level)
        write_results(study, scores, tmp_path / "results" / study.name)
    other = replace(study_of([SOLID]), experiment="other")
    write_results(other, CLEAR, tmp_path / "results" / other.name)
    without_claims = tmp_path / "results" / "rule" / "results.json"
    without_claims.parent.mkdir()
    without_claims.write_text('{"study": "rule", "predictions": []}')
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    begin, end = "<!-- verdicts of made-up -->", "<!-- verdicts:end -->"
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    for _ in range(2):
        update_page(page, tmp_path / "results")
    before, table = page.read_text().split(begin)
    table, after = table.split(end)
    fp8, int4 = (f"(../results/made-up-{level}/README.md)" for level in ("fp8", "int4"))
    assert table.strip().splitlines() == [
        "| experiment | claim | fp8 | int4 |",
        "| --- | --- | --- | --- |",
        f"| made-up | A beats B | [holds]{fp8}, 3 of 3 seeds | [fails]{int4}, 3 of 3 seeds |",
        f"| made-up | A is B | [fails]{fp8}, 3 of 4 seeds | [fails]{int4}, 3 of 4 seeds |",
        f"| made-up | A is solid | [holds]{fp8}, 3 of 2 seeds | [holds]{int4}, 3 of 2 seeds |",
        "",
        "Verdicts at all levels: of 4 on the papers' claims 3 hold, 1 fail, 0 are undecided and 0 "
        "are out of reach here; of 2 on our own 0 hold, 2 fail, 0 are undecided and 0 are out of "
        "reach here. Of those that hold or fail one in twenty is expected to be wrong at most "
        "(Benjamini and Hochberg, over all claims of this table that are within reach). Seeds are "
        "given beside the number at which the test of the whole claim has a power of 80% at the "
        "smallest differences that matter, by the spread measured here. Of the undecided claims 0 "
        "need at most 10 seeds, 0 up to 50, 0 more.",
    ]
    assert before == "before\n"
    assert after == "\nafter\n"


def test_among_many_claims_a_weak_verdict_is_undecided() -> None:
    """At 0.04 a claim is decided alone; as the only such one of four it is not (0.05 / 4)."""

    def content(*p_values: float) -> dict[str, object]:
        claims = [
            {
                "claim": f"claim {place}",
                "source": "here",
                "verdict": "holds" if p < 0.025 else "undecided",
                "p_values": {"holds": p, "fails": 0.9},
                "premise": [],
                "comparisons": [{"seeds": 3}],
            }
            for place, p in enumerate(p_values)
        ]
        return {"study": "s", "experiment": "e", "level": "fp8", "claims": claims}

    assert "| e | claim 0 | [holds]" in "\n".join(verdicts_table([content(0.02)], "."))
    many = "\n".join(verdicts_table([content(0.02, 0.3, 0.3, 0.3)], "."))
    assert "| e | claim 0 | [undecided]" in many


def test_without_its_premise_a_claim_is_out_of_reach(tmp_path: Path) -> None:
    prevented = Claim(
        text="A prevents the collapse of B",
        source="here",
        premise=(collapses("B"),),
        comparisons=(greater("best_score", "A", "B"),),
    )
    study = study_of([prevented])
    (judgment,) = judge(study, CLEAR)
    write_results(study, CLEAR, tmp_path)

    assert judgment.findings[0].verdict is Verdict.HOLDS
    assert judgment.verdict is Verdict.OUT_OF_REACH
    page = (tmp_path / "README.md").read_text()
    assert "**out of reach here** | 3 | premise: `kept`: B < 0.5: +0.500" in page


def test_a_page_without_marks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("nothing")
    for name in ("page.md", "missing.md"):
        with pytest.raises(UserError, match=f"{name} has no marks"):
            update_page(tmp_path / name, tmp_path)
