"""The report of a run as one HTML page, from the templates in `templates`."""

import shlex
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from steadyrl.analysis import Stage, diagnose, has_reinforcement, remarks_of, text_for
from steadyrl.analysis.series import reinforcement
from steadyrl.base.wording import count, short_number
from steadyrl.records.run_folder import RunFolder, write_atomically
from steadyrl.report.drift import read_drift
from steadyrl.report.episodes import Fate, read_episodes
from steadyrl.report.facts import facts_of
from steadyrl.report.memory import Memory, read_writes
from steadyrl.report.panels import (
    beside_panels,
    curve_groups,
    how_to_read,
    in_order,
    is_constant,
    main_panels,
    metric_panels,
)
from steadyrl.report.run_data import RunData, read_run
from steadyrl.report.samples import read_comparison
from steadyrl.report.subject import subject_of

CHARACTERS_SHOWN = 4000
"""Characters of a text that are shown; the middle of a longer one is left out."""

TASKS_SHOWN = 8
"""Held-out tasks that are shown."""


def write_report(folder: RunFolder, beside: Sequence[RunFolder] = ()) -> Path:
    """The path of `report.html`, written into `folder` from what the run has recorded so far.

    The page is one file without scripts or links. A run in progress, or killed, shows what is
    there.

    Args:
        beside: Other runs, whose held-out scores are drawn beside those of this one.

    Raises:
        UserError: a folder is no run folder, has no metrics yet, or holds a broken file; runs are
            to be compared, and one has no held-out score.
    """
    run, others = read_run(folder), [read_run(other) for other in beside]
    page = _environment().get_template("page.html.j2").render(_context(run, folder, others))
    page = page.encode("utf-8", "replace").decode("utf-8")  # half surrogates have no bytes
    write_atomically(folder.report, page)
    return folder.report


def _context(run: RunData, folder: RunFolder, others: Sequence[RunData]) -> dict[str, Any]:
    learning = reinforcement(run.stages)
    can_diagnose = has_reinforcement(run.stages)
    return {
        "run": run,
        "subject": subject_of(run.config),
        "facts": facts_of(run),
        "diagnosis": diagnose(run.stages, run.settings) if can_diagnose else None,
        "remarks": remarks_of(run.stages),
        "beside": beside_panels(run, others),
        "stages": [_learning(stage, folder) for stage in learning],
        "cold_starts": [_cold_start(stage) for stage in run.stages if stage not in learning],
    }


def _learning(stage: Stage, folder: RunFolder) -> dict[str, Any]:
    writes = read_writes(folder, stage.name)
    episodes = read_episodes(folder, stage.name, writes)
    improved = [n for n, (_, episode) in enumerate(episodes) if episode.fate is Fate.IMPROVED]
    return {
        "title": stage.title,
        "comparison": read_comparison(folder, stage.name),
        "drift": read_drift(folder, stage),
        "episodes": episodes,
        "opened": improved[0] if improved else 0,
        "memory": Memory(writes=writes),
        "panels": main_panels(stage),
        "how_to_read": how_to_read(stage),
        "groups": curve_groups(stage),
        "constants": _constants(stage),
    }


def _cold_start(stage: Stage) -> dict[str, Any]:
    changing = [series for series in in_order(stage) if not is_constant(series)]
    return {
        "title": stage.title,
        "how_to_read": how_to_read(stage),
        "panels": metric_panels(stage, changing),
        "constants": _constants(stage),
    }


def _constants(stage: Stage) -> list[dict[str, Any]]:
    """The metrics that never changed, each with its text and its value."""
    return [
        {"metric": series.name, "text": text_for(series.name), "value": series.values.flat[0]}
        for series in in_order(stage)
        if is_constant(series)
    ]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("steadyrl.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "short": short_number,
        "count": count,
        "shortened": shortened,
        "mark": mark,
        "plain": plain,
        "shell": shlex.join,
    }
    environment.globals["tasks_shown"] = TASKS_SHOWN
    return environment


def shortened(text: str) -> str:
    """`text`, its middle left out if it is long."""
    left_out = len(text) - CHARACTERS_SHOWN
    if left_out <= 0:
        return text
    half = CHARACTERS_SHOWN // 2
    return f"{text[:half]}\n\n[… {left_out:,} characters left out …]\n\n{text[-half:]}"


def mark(reward: float) -> tuple[str, str]:
    """The style and the words for a reward: 1 is right, 0 is wrong, in between is partly right."""
    if reward >= 1:
        return "right", "✓ right"
    return ("partly", "◐ partly right") if reward > 0 else ("wrong", "✗ wrong")


def plain(value: Any) -> str:
    """A value of the manifest as text."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        return " ".join(plain(item) for item in value)
    return str(value)
