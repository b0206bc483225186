"""Metrics as figures of the page: a drawing, its title, its values and what it means."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from markupsafe import Markup

from steadyrl.analysis import GROUPS, METRIC_TEXTS, Series, Stage, text_for
from steadyrl.base.errors import UserError
from steadyrl.base.wording import count, short_number
from steadyrl.report.plots import (
    PANEL,
    PANELS,
    SMALL,
    SMOOTHED_FROM,
    WIDE,
    curves_svg,
    layers_svg,
    smoothing_window,
    uses_log_axis,
)
from steadyrl.report.run_data import RunData

REFLECTING = {
    "First attempts": "reward",
    "Last attempts, after reflection": "reward_after_reflection",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A figure of the page."""

    title: str

    style: str
    """The group of the metric, which gives the figure its color."""

    drawing: Markup | None
    """None if the metric was not recorded."""

    values: str = ""
    """First and last value, or the last."""

    legend: Mapping[str, str] | None = None
    """Values of two curves by their names, instead of `values`; such a figure is wide."""

    letter: str = ""
    meaning: str = ""
    metric: str = ""
    notes: str = ""


def main_panels(stage: Stage, *, only_recorded: bool = False) -> list[Panel]:
    """The main curves of a stage, and the gain of reflection if there is any.

    Args:
        only_recorded: Whether curves that were not recorded are left out rather than named.
    """
    panels = []
    for name in PANELS:
        text, series = text_for(name), stage.series(name)
        if series is not None:
            panels.append(_panel(series, f"panel/{stage.name}", PANEL, stage))
        elif not only_recorded:
            panels.append(Panel(title=text.title, style=text.group.name, drawing=None))
    panels = [
        replace(panel, letter=letter, meaning="")
        for panel, letter in zip(panels, "abcd", strict=False)
    ]
    found = {title: stage.series(name) for title, name in REFLECTING.items()}
    both = {title: series for title, series in found.items() if series is not None}
    if len(both) == len(REFLECTING):
        panels.append(
            Panel(
                title="Training reward before and after reflection",
                style="experience",
                drawing=curves_svg(both, size=WIDE, key=f"panel/{stage.name}/reflecting"),
                legend={title: _in_short(series) for title, series in both.items()},
                letter="e",
            )
        )
    return panels


def curves_of(stage: Stage) -> tuple[dict[str, list[Panel]], list[Series]]:
    """Figures of the metrics that change, by the heading of their group, and the constant metrics.

    Metrics follow the order of their texts; those without a text come last.
    """
    groups: dict[str, list[Panel]] = {group.heading: [] for group in GROUPS.values()}
    constant = []
    for name in dict.fromkeys([*METRIC_TEXTS, *stage.metrics]):
        series = stage.metrics.get(name)
        if series is None:
            continue
        if len(series.steps) > 1 and series.finite.all() and np.ptp(series.values) == 0:
            constant.append(series)
        else:
            panel = _panel(series, f"curve/{stage.name}", SMALL)
            groups[text_for(name).group.heading].append(panel)
    return {heading: panels for heading, panels in groups.items() if panels}, constant


def _panel(series: Series, key: str, size: tuple[int, int], stage: Stage | None = None) -> Panel:
    """The figure of a metric; of a `stage`'s score, with its first value and its interval."""
    text, key = text_for(series.name), f"{key}/{series.name}"
    if series.has_layers:
        drawing = layers_svg(series, title=text.title, size=size, key=key)
    else:
        score = stage if series.name == "score" else None
        drawing = curves_svg(
            {text.title: series},
            size=size,
            key=key,
            log_scale=text.log_scale,
            baseline=score is not None and int(series.steps[0]) == 0,
            band=None if score is None else (score.series("score_low"), score.series("score_high")),
        )
    return Panel(
        title=text.title,
        style=text.group.name,
        drawing=drawing,
        values="" if series.has_layers else _in_short(series),
        meaning=text.meaning,
        metric=series.name,
        notes=curve_notes(series, text.log_scale),
    )


def how_to_read(stage: Stage) -> str:
    """The meaning of points and lines in the stage's curves."""
    longest = max((len(metric.steps) for metric in stage.metrics.values()), default=0)
    axis = "The horizontal axis counts steps."
    if longest <= SMOOTHED_FROM:
        return f"{axis} Each point is the value of one step."
    return (
        f"{axis} A curve of more than {SMOOTHED_FROM} points shows them faintly, with their mean "
        f"over {smoothing_window(longest)} neighboring points on top."
    )


def curve_notes(series: Series, log_scale: bool) -> str:
    """Remarks on a curve: values that are not finite or not on the axis."""
    notes = []
    missing = ~series.finite
    if missing.any():
        first = series.steps[missing.reshape(len(missing), -1).any(axis=1)][0]
        notes.append(f"{count(int(missing.sum()), 'value')} not finite, first at step {first}.")
    if series.has_layers:
        largest = series.values[series.finite].max(initial=0.0)
        notes.append(f"Strongest color: {short_number(largest)}. Layer 0 is at the bottom.")
    elif uses_log_axis(series, log_scale):
        hidden = int((series.values[series.finite] <= 0).sum())
        if hidden:
            notes.append(f"{count(hidden, 'value')} of 0 or below, not on the log axis.")
    return " ".join(notes)


def beside_panels(run: RunData, others: Sequence[RunData]) -> list[Panel]:
    """Held-out scores of `run` and of each of `others`, at equal cost.

    Raises:
        UserError: a run has no held-out score yet.
    """
    return [_beside(run, other, number) for number, other in enumerate(others)]


def _beside(own: RunData, other: RunData, number: int) -> Panel:
    courses = [scores_over_responses(run) for run in (own, other)]
    unit = "responses"
    if any(course is None for course in courses):
        unit, courses = "steps", [_scores(run)[1] for run in (own, other)]
    second = other.name if other.name != own.name else f"{other.name} (the other)"
    pair = {name: s for name, s in zip((own.name, second), courses, strict=True) if s is not None}
    end = min(int(series.steps[-1]) for series in pair.values())
    return Panel(
        title=f"Held-out score over {unit}; after {end:,} of them",
        style="outcome",
        drawing=curves_svg(pair, size=WIDE, key=f"beside/{number}", unit=unit),
        legend={
            name: short_number(float(series.values[series.steps <= end][-1]))
            for name, series in pair.items()
        },
    )


def scores_over_responses(run: RunData) -> Series | None:
    """The held-out score against the responses sampled so far; None if the run did not count them.

    Raises:
        UserError: it has no held-out score yet.
    """
    stage, score = _scores(run)
    sampled = stage.series("responses")
    if sampled is None:
        return None
    so_far = [int(sampled.values[sampled.steps <= step].sum()) for step in score.steps]
    return Series(name=score.name, steps=np.array(so_far), values=score.values)


def _scores(run: RunData) -> tuple[Stage, Series]:
    for stage in reversed(run.stages):
        score = stage.series("score")
        if score is not None:
            return stage, score
    raise UserError(
        f"The run {run.name} has no held-out score yet, so it cannot be compared with another run. "
        "Wait for its first evaluation, or leave it out."
    )


def _in_short(series: Series) -> str:
    """First and last value of a few; of many, the last."""
    last = short_number(series.values[-1])
    if 1 < len(series.values) <= SMOOTHED_FROM:
        return f"{short_number(series.values[0])} → {last}"
    return f"last {last}"
