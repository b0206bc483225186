"""Results of a study: measures, a verdict for each claim, and the figure, in one folder.

results/runs/<digest>.json        one finished run (see `records`)
results/<study>/results.json      measures of each run, comparisons, verdicts
results/<study>/figure.svg
results/<study>/README.md         the same as tables
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from steadyrl.lab.claims import Claim, Comparison, Interval, PValues, Verdict, p_values
from steadyrl.lab.drawing import draw
from steadyrl.lab.measures import COMPARED, MEASURES
from steadyrl.lab.records import RunRecord
from steadyrl.lab.study import Study
from steadyrl.lab.sweep import SweepStudy, draw_sweep
from steadyrl.lab.tables import study_page
from steadyrl.records.run_folder import write_atomically

SEEDS_IF_UNDECIDED = 5

Runs = Mapping[str, Mapping[int, RunRecord]]
"""Finished runs by condition and seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A comparison, the measured difference, and its verdict."""

    comparison: Comparison
    difference: Interval
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgment:
    """A claim, its findings, and its verdict."""

    claim: Claim
    findings: tuple[Finding, ...]
    premise: tuple[Finding, ...]
    verdict: Verdict

    @property
    def p_values(self) -> PValues:
        """The p-values of the claim."""
        return p_values([each.comparison.p_values(each.difference) for each in self.findings])


def judge(study: Study, runs: Runs) -> list[Judgment]:
    """A judgment on each claim of `study`."""
    judgments = []
    for claim in study.claims:
        findings = tuple(_finding(comparison, runs) for comparison in claim.comparisons)
        premise = tuple(_finding(comparison, runs) for comparison in claim.premise)
        verdict = claim.verdict(
            tuple(finding.verdict for finding in findings),
            tuple(finding.verdict for finding in premise),
        )
        judgments.append(Judgment(claim=claim, findings=findings, premise=premise, verdict=verdict))
    return judgments


def with_more_seeds_if_undecided(study: Study, runs: Runs) -> Study:
    """`study`, on 5 seeds if `runs` leave a claim of it undecided and it has fewer."""
    undecided = any(
        judgment.verdict is Verdict.UNDECIDED
        or any(finding.verdict is Verdict.UNDECIDED for finding in judgment.premise)
        for judgment in judge(study, runs)
    )
    if undecided and len(study.seeds) < SEEDS_IF_UNDECIDED:
        return study.with_seeds(SEEDS_IF_UNDECIDED)
    return study


def write_results(study: Study, runs: Runs, folder: Path) -> list[Judgment]:
    """Writes data, figure and tables into `folder`; returns the judgments."""
    judgments = judge(study, runs)
    content = as_json(study, runs, judgments)
    write_atomically(folder / "results.json", json.dumps(content, indent=1) + "\n")
    write_atomically(folder / "README.md", study_page(content))
    if isinstance(study, SweepStudy):
        draw_sweep(study, runs, folder / "figure.svg")
    else:
        draw(study, runs, folder / "figure.svg")
    return judgments


def as_json(study: Study, runs: Runs, judgments: list[Judgment]) -> dict[str, Any]:
    """The content of results.json."""
    records = [record for by_seed in runs.values() for record in by_seed.values()]
    return {
        "study": study.name,
        "experiment": study.experiment,
        "level": study.level,
        "title": study.title,
        "commits": sorted({str(record.commit) for record in records}),
        "machines": sorted({record.machine for record in records}),
        "conditions": {
            name: [
                {
                    "seed": seed,
                    "run": record.digest,
                    "failure": record.failure,
                    **{name: _measured(name, record) for name in study.measures},
                }
                for seed, record in by_seed.items()
            ]
            for name, by_seed in runs.items()
        },
        "claims": [
            {
                "claim": judgment.claim.text,
                "source": judgment.claim.source,
                "verdict": judgment.verdict,
                "p_values": asdict(judgment.p_values),
                "premise": [_comparison_as_json(f) for f in judgment.premise],
                "comparisons": [_comparison_as_json(f) for f in judgment.findings],
            }
            for judgment in judgments
        ],
    }


def _measured(measure: str, record: RunRecord) -> float | None:
    """The rounded measure, None if the run lacks the data."""
    value = MEASURES[measure](record)
    return round(value, 4) if np.isfinite(value) else None


def _finding(comparison: Comparison, runs: Runs) -> Finding:
    interval = Interval.of(np.array(_differences(comparison, runs), dtype=np.float64))
    return Finding(comparison=comparison, difference=interval, verdict=comparison.verdict(interval))


def _differences(comparison: Comparison, runs: Runs) -> list[float]:
    """The difference for each seed."""
    first = runs[comparison.first]
    if not isinstance(comparison.second, str):
        measure = MEASURES[comparison.measure]
        return [measure(record) - comparison.second for record in first.values()]
    second = runs[comparison.second]
    pairs = [(first[seed], second[seed]) for seed in sorted(first.keys() & second.keys())]
    if comparison.measure in COMPARED:
        ahead = COMPARED[comparison.measure]
        return [ahead(*pair) for pair in pairs]
    measure = MEASURES[comparison.measure]
    return [measure(one) - measure(other) for one, other in pairs]


def _comparison_as_json(finding: Finding) -> dict[str, Any]:
    comparison, difference = finding.comparison, finding.difference
    bounded = np.isfinite(difference.low)
    return {
        "measure": comparison.measure,
        "first": comparison.first,
        "relation": comparison.relation,
        "second": comparison.second,
        "margin": comparison.margin,
        "seeds": difference.count,
        "difference": round(difference.mean, 4) if difference.count else None,
        "interval": [round(difference.low, 4), round(difference.high, 4)] if bounded else None,
        "verdict": finding.verdict,
    }
