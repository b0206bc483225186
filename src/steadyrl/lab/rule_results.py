"""Results of the test of the rule: what it predicted of every fresh run, and what happened.

results/<study>/results.json      every prediction, and the confusion matrices
results/<study>/figure.svg
results/<study>/README.md         the same as tables
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from steadyrl.analysis.remedy_rule import RemedyRule
from steadyrl.analysis.safety import LIMITS
from steadyrl.lab.configurations import finite_json
from steadyrl.lab.dose import LOSS, Runs
from steadyrl.lab.rule import RuleStudy
from steadyrl.lab.rule_figure import draw_rule
from steadyrl.lab.rule_predictions import (
    MEND,
    Prediction,
    control_scores,
    needs,
    predictions,
)
from steadyrl.lab.tables import markdown_table
from steadyrl.records.run_folder import write_atomically


def write_rule_results(
    study: RuleStudy, rule: RemedyRule, runs: Runs, controls: Runs, folder: Path
) -> list[Prediction]:
    """Writes data, figure and tables into `folder`; returns the predictions."""
    found, scores = predictions(study, rule, runs, controls), control_scores(study, controls)
    records = [run for part in (runs, controls) for of in part.values() for run in of.values()]
    content = {
        "study": study.name,
        "title": study.title,
        "commits": sorted({str(run.commit) for run in records}),
        "machines": sorted({run.machine for run in records}),
        "rule": finite_json(rule.to_values()),
        "controls": {name: round(score, 4) for name, score in scores.items()},
        "predictions": [_as_json(each) for each in found],
        "correct": {name: list(hits) for name, hits in _correct(found).items()},
    }
    write_atomically(folder / "results.json", json.dumps(content, indent=1) + "\n")
    write_atomically(folder / "README.md", rule_page(study, rule, found, content))
    draw_rule(study.title, rule, found, folder / "figure.svg")
    return found


def _as_json(each: Prediction) -> dict[str, Any]:
    return {**asdict(each), "change": round(each.change, 4), "kept": each.kept}


def _correct(found: Sequence[Prediction]) -> dict[str, tuple[int, int]]:
    """Correct predictions and all, of the rule and of simpler ones."""
    unsafe = LIMITS["kl"].unsafe or np.inf
    kept = sum(each.kept for each in found)
    return {
        "the rule": (sum(each.keeps == each.kept for each in found), len(found)),
        "the more frequent outcome": (max(kept, len(found) - kept), len(found)),
        f"mismatch k3 above {unsafe:g} loses": (
            sum((each.measured.mismatch <= unsafe) == each.kept for each in found),
            len(found),
        ),
    }


def rule_page(
    study: RuleStudy, rule: RemedyRule, found: Sequence[Prediction], content: Mapping[str, Any]
) -> str:
    """README.md of the results."""
    return "\n".join(_page(study, rule, found, content)) + "\n"


def _page(
    study: RuleStudy, rule: RemedyRule, found: Sequence[Prediction], content: Mapping[str, Any]
) -> Iterator[str]:
    yield f"# {study.title}"
    yield ""
    yield "![Change of the final score by measured value](figure.svg)"
    yield ""
    yield (
        f"A run *keeps* its score if it ends less than {LOSS} below the mean of the controls. "
        "`lab/rule.py` states how limits and predictions are made; limits are from the borders of "
        "[dose-float32](../dose-float32/README.md)."
    )
    yield ""
    yield from _controls(content["controls"])
    yield from markdown_table(
        ("origin", "limits by remedy"),
        [(origin.value, _limits(limits)) for origin, limits in rule.limits.items()],
    )
    yield ""
    yield "## Predictions of single runs"
    yield ""
    yield from markdown_table(
        ("dial", "keeps, kept", "keeps, lost", "loses, kept", "loses, lost", "correct"),
        list(_confusion(found)),
    )
    yield ""
    yield from markdown_table(
        ("prediction by", "correct (95% interval)"),
        [(name, _share(*hits)) for name, hits in _correct(found).items()],
    )
    yield ""
    yield "## What is needed"
    yield ""
    yield "The first remedy of a dial under which a run keeps its score; rows: predicted."
    yield ""
    yield from _need_table(needs(found))
    yield ""
    yield f"Machine: {'; '.join(content['machines'])}. Commit: {', '.join(content['commits'])}."


def _controls(scores: Mapping[str, float]) -> Iterator[str]:
    if not scores:
        return
    ends = ", ".join(f"{score:.3f} ({name})" for name, score in scores.items())
    yield f"Final score of the controls: {ends}."
    yield ""
    if void := [name for name, score in scores.items() if score < LOSS]:
        yield (
            f"**Void for {', '.join(void)}**: controls end below {LOSS}, so no run can lose as "
            "much, and the counts below say nothing about the rule."
        )
        yield ""


def _limits(limits: Mapping[str, float]) -> str:
    return ", ".join(f"{remedy} {limit:.2g}" for remedy, limit in limits.items())


def _confusion(found: Sequence[Prediction]) -> Iterator[tuple[str, ...]]:
    """A row for each dial, and one for all."""
    names = list(dict.fromkeys(each.dial for each in found))
    for name in (*names, "all"):
        part = [each for each in found if name in (each.dial, "all")]
        counted = Counter((each.keeps, each.kept) for each in part)
        cells = [(keeps, kept) for keeps in (True, False) for kept in (True, False)]
        hits = counted[True, True] + counted[False, False]
        yield (name, *(str(counted[cell]) for cell in cells), _share(hits, len(part)))


def _share(hits: int, count: int) -> str:
    """A share with the interval of Wilson."""
    if not count:
        return "no run"
    interval = binomtest(hits, count).proportion_ci(method="wilson")
    return f"{hits} of {count}, {hits / count:.0%} ({interval.low:.0%} to {interval.high:.0%})"


def _need_table(cases: Sequence[tuple[str, str]]) -> list[str]:
    counted = Counter(cases)
    kinds = list(dict.fromkeys(_in_order(kind for case in cases for kind in case)))
    return markdown_table(
        ("", *kinds),
        [
            (predicted, *(str(counted[predicted, actual]) for actual in kinds))
            for predicted in kinds
        ],
    )


def _in_order(kinds: Iterable[str]) -> list[str]:
    """Nothing first, remedies, and last to mend the cause."""
    return sorted(kinds, key=lambda kind: (kind != "nothing", kind == MEND, kind))
