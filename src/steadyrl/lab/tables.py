"""Results as tables, for people."""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from steadyrl.base.errors import UserError
from steadyrl.lab import power
from steadyrl.lab.claims import PValues, Verdict, discoveries
from steadyrl.records.run_folder import write_atomically

VERDICTS = re.compile(r"<!-- verdicts of (.+?) -->\n.*?<!-- verdicts:end -->", re.DOTALL)
"""Mark for the verdicts of some experiments, with a column per level."""

SHOWN = (
    "best_score",
    "final_score",
    "mean_score",
    "retry_reward",
    "retry_lift",
    "seconds",
    "kept",
    "log10_mismatch",
    "log10_staleness",
    "log10_gradient_norm",
    "final_entropy",
)
"""Measures that the table of conditions has a column for, where a study measures them."""

NOTES = {
    "log10_staleness": "`log10_staleness` is that of the k3 of rollouts under weights at their "
    "update and at their sampling, without those that are not older.",
    "mean_score": "`mean_score` is the held-out score averaged over the run.",
    "retry_reward": "`retry_reward` is that of second attempts in the first tenth of the run, "
    "`retry_lift` how far it lies above that of first attempts.",
    "seconds": "`seconds` is the time of a run's steps, without evaluations.",
    "log10_gradient_norm": "`log10_gradient_norm` is of the norm before clipping, in the median of "
    "a run's bins that have a gradient.",
    "kept": "`kept` is the last tenth's reward over the best tenth's.",
}
"""Notes on the displayed measures."""

OWN = "our own"
"""Prefix of the source of claims that no paper makes."""

RELATIONS = {"greater": ">", "less": "<", "not_greater": "not >", "similar": "≈"}


def study_page(content: dict[str, Any]) -> str:
    """The page of one study, from its results.json."""
    lines = [
        f"# {content['title']}",
        "",
        "![The course of every condition](figure.svg)",
        "",
        *conditions_table(content),
        "",
        " ".join(["Mean over seeds, and the standard deviation.", *_notes(content)]),
        "",
        *([*claims_table(content), ""] if content["claims"] else []),
        f"Machine: {'; '.join(content['machines'])}. Commit: {', '.join(content['commits'])}.",
        "",
    ]
    return "\n".join(lines)


def conditions_table(content: dict[str, Any]) -> list[str]:
    """Each condition's measures."""
    shown = _shown(content)
    head = ["condition", "seeds", *(f"`{name}`" for name in shown)]
    rows = [
        (name, str(len(runs)), *(_mean_and_spread([run[each] for run in runs]) for each in shown))
        for name, runs in content["conditions"].items()
    ]
    return markdown_table(head, rows)


def claims_table(content: dict[str, Any]) -> list[str]:
    """Each claim's verdict, with the differences behind it."""
    head = ["claim", "made in", "verdict", "seeds for 80% power", "differences with 95% interval"]
    rows = [
        (
            claim["claim"],
            claim["source"],
            f"**{claim['verdict']}**",
            power.in_words(claim),
            "<br>".join(
                [
                    *(f"premise: {_difference(comparison)}" for comparison in claim["premise"]),
                    *(_difference(comparison) for comparison in claim["comparisons"]),
                ]
            ),
        )
        for claim in content["claims"]
    ]
    return markdown_table(head, rows)


def verdicts_table(contents: Sequence[dict[str, Any]], folder: str) -> list[str]:
    """A row for each claim, a column for each level, verdicts linked to their study; then counts.

    Beside a verdict are its seeds, and those that its test needs.

    Args:
        folder: Path of the studies' folders, relative to the page.
    """
    levels = list(dict.fromkeys(content["level"] for content in contents))
    verdicts = _verdicts(contents)
    claims: dict[tuple[str, str], dict[str, str]] = {}
    for content in contents:
        link = f"{folder}/{content['study']}/README.md"
        for place, claim in enumerate(content["claims"]):
            row = claims.setdefault((content["experiment"], claim["claim"]), {})
            verdict = verdicts[content["study"], place]
            row[content["level"]] = f"[{verdict}]({link}), {_seeds(claim)}"
    rows = [
        (experiment, text, *(of_levels.get(level, "") for level in levels))
        for (experiment, text), of_levels in claims.items()
    ]
    return [
        *markdown_table(("experiment", "claim", *levels), rows),
        "",
        _counts(contents, verdicts),
    ]


def _verdicts(contents: Iterable[dict[str, Any]]) -> dict[tuple[str, int], Verdict]:
    """The verdict on each claim, by the name of its study and its place there.

    Those within reach are one family, whose false discovery rate is controlled.
    """
    claims = {
        (content["study"], place): claim
        for content in contents
        for place, claim in enumerate(content["claims"])
    }
    unreached = {key for key, c in claims.items() if c["verdict"] == Verdict.OUT_OF_REACH}
    reached = [key for key in claims if key not in unreached]
    decided = discoveries([PValues(**claims[key]["p_values"]) for key in reached])
    return dict(zip(reached, decided, strict=True)) | dict.fromkeys(unreached, Verdict.OUT_OF_REACH)


def _counts(contents: Iterable[dict[str, Any]], verdicts: Mapping[tuple[str, int], Verdict]) -> str:
    """Counts of each verdict, on claims of papers and on our own."""
    sources = {
        (content["study"], place): claim["source"]
        for content in contents
        for place, claim in enumerate(content["claims"])
    }
    parts = []
    for whose, own in (("the papers' claims", False), ("our own", True)):
        given = [verdicts[key] for key, source in sources.items() if source.startswith(OWN) is own]
        holding, failing, undecided, unreached = (given.count(verdict) for verdict in Verdict)
        if given:
            parts.append(
                f"of {len(given)} on {whose} {holding} hold, {failing} fail, {undecided} are "
                f"undecided and {unreached} are out of reach here"
            )
    return (
        f"Verdicts at all levels: {'; '.join(parts)}. Of those that hold or fail one in twenty is "
        "expected to be wrong at most (Benjamini and Hochberg, over all claims of this table that "
        f"are within reach). {_powers(contents, verdicts)}"
    )


def _powers(contents: Iterable[dict[str, Any]], verdicts: Mapping[tuple[str, int], Verdict]) -> str:
    """What it would take to decide what is undecided."""
    undecided = [
        claim
        for content in contents
        for place, claim in enumerate(content["claims"])
        if verdicts[content["study"], place] is Verdict.UNDECIDED and power.is_known(claim)
    ]
    needed = [power.seeds_of_claim(claim) for claim in undecided]
    few, many = (
        sum(low < count <= high for count in needed if count is not None)
        for low, high in ((0, FEW), (FEW, MANY))
    )
    return (
        "Seeds are given beside the number at which the test of the whole claim has a power of 80% "
        "at the smallest differences that matter, by the spread measured here. Of the undecided "
        f"claims {few} need at most {FEW} seeds, {many} up to {MANY}, {len(needed) - few - many} "
        "more."
    )


FEW, MANY = 10, 50
"""Seeds that undecided claims are counted by."""


def read_results(results: Path) -> list[dict[str, Any]]:
    """Results of every study with claims in the folder `results`, by name, without quick forms."""
    paths = sorted(path for path in results.glob("*/results.json"))
    contents = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    whole = [content for content in contents if not content["study"].endswith("-quick")]
    return [content for content in whole if "claims" in content]


def rewrite_tables(results: Path) -> int:
    """Writes README.md of every study of conditions in `results` again, from its data.

    Returns:
        Number of studies.
    """
    plain = [content for content in read_results(results) if "borders" not in content]
    for content in plain:
        write_atomically(results / content["study"] / "README.md", study_page(content))
    return len(plain)


def update_page(page: Path, results: Path) -> None:
    """Replaces the tables of verdicts between the marks of `page` by those of `results`.

    Raises:
        UserError: the page is missing or has no marks.
    """
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    contents = read_results(results)
    folder = Path(os.path.relpath(results.resolve(), page.resolve().parent)).as_posix()

    def table(mark: re.Match[str]) -> str:
        chosen = [c for name in mark[1].split() for c in contents if c["experiment"] == name]
        lines = verdicts_table(chosen, folder)
        return "\n".join([f"<!-- verdicts of {mark[1]} -->", *lines, "<!-- verdicts:end -->"])

    text, tables = VERDICTS.subn(table, text)
    if not tables:
        raise UserError(
            f"{page} has no marks to write a table between. Add the lines "
            "<!-- verdicts of EXPERIMENT --> and <!-- verdicts:end -->."
        )
    write_atomically(page, text)


def _shown(content: dict[str, Any]) -> list[str]:
    """The measures of a study that have a column; all of them without any runs."""
    runs = [run for of_condition in content["conditions"].values() for run in of_condition]
    return [name for name in SHOWN if not runs or name in runs[0]]


def _seeds(claim: dict[str, Any]) -> str:
    counts = sorted({comparison["seeds"] for comparison in claim["comparisons"]})
    needed = power.in_words(claim)
    return f"{' to '.join(str(count) for count in counts)} of {needed} seeds"


def _notes(content: dict[str, Any]) -> list[str]:
    return [NOTES[name] for name in _shown(content) if name in NOTES]


def _difference(comparison: dict[str, Any]) -> str:
    relation = RELATIONS[comparison["relation"]]
    what = f"`{comparison['measure']}`: {comparison['first']} {relation} {comparison['second']}"
    if comparison["difference"] is None:
        return f"{what}: not run"
    interval = "one seed"
    if comparison["interval"] is not None:
        low, high = comparison["interval"]
        interval = f"{low:+.3f} to {high:+.3f}, {comparison['seeds']} seeds"
    return f"{what}: {comparison['difference']:+.3f} ({interval})"


def _mean_and_spread(values: list[float | None]) -> str:
    if not values:
        return "not run"
    known = [value for value in values if value is not None]
    if not known:
        return "none"
    spread = f" ± {np.std(known, ddof=1):.3f}" if len(known) > 1 else ""
    return f"{np.mean(known):.3f}{spread}"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]
