"""The report of a run as one HTML page, from the templates in `templates`."""

import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from steadyrl.analysis import Stage, has_reinforcement, remarks_of, text_for
from steadyrl.analysis.foreign import ForeignRun
from steadyrl.analysis.series import reinforcement
from steadyrl.analysis.signals import MIN_STEPS
from steadyrl.base.wording import count, short_number
from steadyrl.records.run_folder import RunFolder, write_atomically
from steadyrl.report.drift import read_drift
from steadyrl.report.episodes import read_episodes
from steadyrl.report.facts import facts_of
from steadyrl.report.memory import read_writes, split
from steadyrl.report.panels import beside_panels, curves_of, how_to_read, main_panels
from steadyrl.report.run_data import RunData, data_of
from steadyrl.report.samples import read_comparison

CHARACTERS_SHOWN = 4000
"""Characters of a text that are shown; the middle of a longer one is left out."""

TEXTS_SHOWN = 8
"""Held-out tasks, and texts of the memory, that are shown."""


def write_report(
    run: RunFolder | ForeignRun, beside: Sequence[RunFolder | ForeignRun] = ()
) -> Path:
    """The path of the report, written into the run's folder from what was recorded so far.

    The page is one file without scripts or links. A run in progress, or killed, shows what is
    there.

    Args:
        run: A run of this package, or the log of another trainer.
        beside: Other runs, whose held-out scores are drawn beside those of this one.

    Raises:
        UserError: a folder is no run folder, has no metrics yet, or holds a broken file; runs are
            to be compared, and one has no held-out score.
    """
    data, others = data_of(run), [data_of(other) for other in beside]
    write_page(data.report, "page.html.j2", _context(data, others))
    return data.report


def write_page(path: Path, template: str, context: Mapping[str, Any]) -> None:
    """Writes the page that a template of `templates` makes."""
    page = _environment().get_template(template).render(context)
    page = page.encode("utf-8", "replace").decode("utf-8")  # half surrogates have no bytes
    write_atomically(path, page)


def _context(run: RunData, others: Sequence[RunData]) -> dict[str, Any]:
    learning = reinforcement(run.stages)
    diagnosis = run.diagnose() if has_reinforcement(run.stages) else None
    return {
        "run": run,
        "facts": facts_of(run.stages),
        "diagnosis": diagnosis,
        "remarks": remarks_of(run.stages),
        "beside": beside_panels(run, others),
        "stages": [_curves(stage) | _texts(stage, run.folder) for stage in learning],
        "cold_starts": [_curves(stage) for stage in run.stages if stage not in learning],
    }


def _curves(stage: Stage) -> dict[str, Any]:
    groups, constants = curves_of(stage)
    return {
        "title": stage.title,
        "how_to_read": how_to_read(stage),
        "groups": groups,
        "constants": [(series, text_for(series.name)) for series in constants],
    }


def _texts(stage: Stage, folder: RunFolder | None) -> dict[str, Any]:
    if folder is None:
        return {"panels": main_panels(stage, only_recorded=True)}
    writes = read_writes(folder, stage.name)
    return {
        "panels": main_panels(stage),
        "comparison": read_comparison(folder, stage.name),
        "drift": read_drift(folder, stage),
        "episodes": read_episodes(folder, stage.name, writes),
        "writes": writes,
    }


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("steadyrl.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"texts_shown": TEXTS_SHOWN, "min_steps": MIN_STEPS}
    environment.filters |= {"short": short_number, "count": count, "shell": shlex.join}
    for function in (shortened, mark, plain, evenly, split):
        environment.filters[function.__name__] = function
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


def evenly(items: Sequence[Any], many: int) -> list[Any]:
    """At most `many` of `items`, evenly from the first to the last."""
    many = min(many, len(items))
    places = {place * (len(items) - 1) // max(1, many - 1) for place in range(many)}
    return [items[place] for place in sorted(places)]
