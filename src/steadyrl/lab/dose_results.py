"""Results of a study of doses: the border under every remedy, the figure and the tables.

results/runs/<digest>.json        one finished run (see `records`)
results/<study>/results.json      measures of each run, borders, the mismatch at each dose
results/<study>/figure.svg
results/<study>/diagram.svg       of diagrams of two dials
results/<study>/README.md         the same as tables
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from steadyrl.lab.borders import Border
from steadyrl.lab.configurations import finite_json
from steadyrl.lab.dose import LOSS, Dial, DoseStudy, Event, Runs
from steadyrl.lab.dose_diagram import DiagramStudy
from steadyrl.lab.dose_diagram_figure import draw_diagram
from steadyrl.lab.dose_figure import draw_doses
from steadyrl.lab.dose_findings import Finding, findings_of, mismatches
from steadyrl.lab.measures import MEASURES
from steadyrl.lab.results import as_json
from steadyrl.lab.tables import markdown_table
from steadyrl.records.run_folder import write_atomically

EVENTS = {
    Event.LOSES: f"half of the runs end {LOSS} or more below the controls",
    Event.COLLAPSES: "half of the runs end below half of their best score",
}


SHOWN = ("final_score", "mean_score", "final_reward")
"""Measures of the table of doses."""


def write_dose_results(study: DoseStudy, runs: Runs, folder: Path) -> list[Finding]:
    """Writes data, figure and tables into `folder`; returns the borders."""
    findings = findings_of(study, runs)
    ran = {name: of_condition for name, of_condition in runs.items() if of_condition}
    content = as_json(study, ran, []) | {
        "loss": LOSS,
        "borders": [_finding_as_json(finding) for finding in findings],
        "mismatch": {
            dial.name: [
                {"dose": at.dose, "k3": float(f"{at.k3:.3g}"), "disagreement": at.disagreement}
                for at in mismatches(dial, runs)
            ]
            for dial in study.dials
        },
    }
    write_atomically(folder / "results.json", json.dumps(content, indent=1) + "\n")
    write_atomically(folder / "README.md", dose_page(study, runs, findings, content))
    draw_doses(study, runs, findings, folder / "figure.svg")
    if isinstance(study, DiagramStudy):
        draw_diagram(study, runs, findings, folder / "diagram.svg")
    return findings


def dose_page(
    study: DoseStudy, runs: Runs, findings: Sequence[Finding], content: dict[str, Any]
) -> str:
    """The page of a study of doses."""
    lines = [
        f"# {study.title}",
        "",
        "![Final scores by dose, and the border under each remedy](figure.svg)",
        "",
        *_diagram_lines(study),
        "*Border*: the dose at which an event shows in half of the runs, with an interval of 95%. "
        "*Times*: how many times higher it is than without a remedy, from the ends of both "
        "intervals. *Works*: the interval lies above that without a remedy.",
    ]
    for dial in study.dials:
        lines += ["", *_section(study, dial, runs, findings)]
    machines, commits = ", ".join(content["machines"]), ", ".join(content["commits"])
    return "\n".join([*lines, "", f"Machine: {machines}. Commit: {commits}.", ""])


def _diagram_lines(study: DoseStudy) -> list[str]:
    if not isinstance(study, DiagramStudy):
        return []
    return [f"![Borders against the {study.diagram.axis}](diagram.svg)", ""]


def _section(
    study: DoseStudy, dial: Dial, runs: Runs, findings: Sequence[Finding]
) -> Iterator[str]:
    """The part of the page about one dial."""
    yield f"## {dial.name.capitalize()}"
    yield ""
    yield (
        f"Dose: {dial.axis}, from {dial.doses[0]:g} to {dial.doses[-1]:g}. "
        f"{len(runs[dial.control_name])} runs at dose 0 end with a score of "
        f"{study.control_score(dial, runs):.3f}."
    )
    yield ""
    yield from borders_table([finding for finding in findings if finding.dial is dial])
    yield ""
    yield (
        "Final score, score averaged over the run, final reward (of the perturbed engine) and, in "
        "brackets, number of runs; mismatch without a remedy, early in training:"
    )
    yield ""
    yield from _doses_table(dial, runs)
    unfinished = [name for name in dial.remedies if study.next_run(dial, name, runs) is not None]
    if unfinished:
        yield ""
        yield f"Not finished by the rule of the design: {', '.join(unfinished)}."


def borders_table(findings: Sequence[Finding]) -> list[str]:
    """A row for each event and remedy."""
    head = ("event", "remedy", "runs", "with the event", "border (95% interval)", "times", "effect")
    rows = [
        (
            EVENTS[finding.event],
            finding.remedy,
            str(len(finding.outcomes)),
            str(finding.shown),
            in_words(finding.border, finding.dial) if finding.outcomes else "not run",
            "" if finding.factor is None else _factor_in_words(finding.factor),
            finding.effect or "",
        )
        for finding in findings
    ]
    return markdown_table(head, rows)


def _doses_table(dial: Dial, runs: Runs) -> list[str]:
    """A row for each dose that was run: scores and runs under each remedy, and the mismatch."""
    measured = {at.dose: at for at in mismatches(dial, runs)}
    return markdown_table(
        ("dose", *dial.remedies, "k3", "routing disagreement"),
        [
            (
                f"{dose:g}",
                *(_score(runs, dial.at(remedy, dose)) for remedy in dial.remedies),
                f"{measured[dose].k3:.2g}" if dose in measured else "",
                _share(measured[dose].disagreement) if dose in measured else "",
            )
            for dose in dial.doses
            if any(runs[dial.at(remedy, dose)] for remedy in dial.remedies)
        ],
    )


def _score(runs: Runs, condition: str) -> str:
    ran = runs[condition].values()
    if not ran:
        return ""
    means = (np.mean([MEASURES[name](run) for run in ran]) for name in SHOWN)
    return f"{', '.join(f'{mean:.2f}' for mean in means)} ({len(ran)})"


def _share(disagreement: float | None) -> str:
    return "" if disagreement is None else f"{disagreement:.0%}"


def in_words(border: Border, dial: Dial) -> str:
    """A border with its interval, for people."""
    middle, low, high = (_dose(dose, dial) for dose in (border.dose, border.low, border.high))
    return middle if low == high else f"{middle} ({low} to {high})"


def _dose(dose: float, dial: Dial) -> str:
    if 0 < dose < np.inf:
        return f"{dose:.2g}"
    return f"below {dial.doses[0]:g}" if dose == 0 else f"above {dial.doses[-1]:g}"


def _factor_in_words(factor: Border) -> str:
    if not np.isfinite(factor.dose):
        return f"more than {factor.low:.2g}"
    high = "no limit" if np.isinf(factor.high) else f"{factor.high:.2g}"
    return f"{factor.dose:.2g} ({factor.low:.2g} to {high})"


def _finding_as_json(finding: Finding) -> dict[str, Any]:
    return {
        "dial": finding.dial.name,
        "event": finding.event,
        "remedy": finding.remedy,
        "runs": len(finding.outcomes),
        "shown": finding.shown,
        "border": finite_json(asdict(finding.border)),
        "effect": finding.effect,
        "factor": None if finding.factor is None else finite_json(asdict(finding.factor)),
    }
