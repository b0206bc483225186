"""Metrics of a stage as the parts of the page that draw them."""

import html
from collections.abc import Iterable

import numpy as np

from steadyrl.analysis.metric_texts import GROUPS, METRIC_TEXTS, text_for
from steadyrl.analysis.series import Series, Stage
from steadyrl.base.wording import count, short_number
from steadyrl.report.curves import (
    PANEL,
    SMALL,
    SMOOTHED_FROM,
    WIDE,
    curve_notes,
    curve_svg,
    layers_svg,
    pair_svg,
    smoothing_window,
)
from steadyrl.report.figure import PANELS

EXPERIENCED = "reward_after_reflection"


def panels_section(stage: Stage) -> str:
    """The HTML of the curves by which a stage is judged."""
    panels = "".join(
        _panel(stage, name, letter) for name, letter in zip(PANELS, "abcd", strict=True)
    )
    return (
        f"<section><h2>{html.escape(stage.title)}</h2>"
        f'<p class="lead">{_how_to_read(stage)}</p><div class="panels">{panels}'
        f"{_reflecting_panel(stage)}</div></section>"
    )


def _how_to_read(stage: Stage) -> str:
    longest = max((len(metric.steps) for metric in stage.metrics.values()), default=0)
    axis = "The horizontal axis counts steps."
    if longest <= SMOOTHED_FROM:
        return f"{axis} Each point is the value of one step."
    return (
        f"{axis} A curve of more than {SMOOTHED_FROM} points shows them faintly, with their mean "
        f"over {smoothing_window(longest)} neighbouring points on top."
    )


def _panel(stage: Stage, name: str, letter: str) -> str:
    text, series = text_for(name), stage.series(name)
    if series is None:
        drawing, values = '<p class="missing">not recorded in this run</p>', ""
    else:
        drawing = curve_svg(
            series,
            title=text.title,
            log_scale=text.log_scale,
            size=PANEL,
            key=f"panel/{stage.name}/{name}",
            baseline=name == "score" and int(series.steps[0]) == 0,
            band=_interval(stage) if name == "score" else None,
        )
        values = _in_short(series)
    return (
        f'<figure class="{text.group.name}"><div class="title"><div><i>{letter}</i>'
        f"{html.escape(text.title)}</div><span>{values}</span></div>{drawing}"
        f"{_notes(series, text.log_scale)}</figure>"
    )


def _interval(stage: Stage) -> tuple[Series, Series] | None:
    """Lower and upper ends of the 95% interval of the score, where both were recorded."""
    low, high = stage.series("score_low"), stage.series("score_high")
    return None if low is None or high is None else (low, high)


def _reflecting_panel(stage: Stage) -> str:
    """Reward before and after reflection on common axes; nothing where nobody reflects."""
    pair = {"First attempts": "reward", "Last attempts, after reflection": EXPERIENCED}
    found = {title: s for title, name in pair.items() if (s := stage.series(name)) is not None}
    if len(found) < len(pair):
        return ""
    keys = zip(found.items(), ("one", "other"), strict=True)
    legend = " ".join([f'<b class="{key}">{t}</b> {_in_short(s)}' for (t, s), key in keys])
    return (
        '<figure class="experience wide"><div class="title"><div><i>e</i>Training reward before '
        f'and after reflection</div><span class="legend">{legend}</span></div>'
        f"{pair_svg(found, size=WIDE, key=f'panel/{stage.name}/reflecting')}</figure>"
    )


def curves_section(stage: Stage) -> str:
    """The HTML of every metric with what it means; those that never changed are folded."""
    order = _in_order(stage)
    constant = [name for name in order if _is_constant(stage.metrics[name])]
    sections = []
    for group in GROUPS.values():
        names = [n for n in order if n not in constant and text_for(n).group == group]
        if names:
            sections.append(f"<h3>{html.escape(group.heading)}</h3>{_grid(stage, names)}")
    folded = _constants(stage, constant)
    return f"<section><h2>What each curve means</h2>{''.join(sections)}{folded}</section>"


def _is_constant(metric: Series) -> bool:
    """Whether there are several values, and all are one number."""
    values = metric.values
    return len(metric.steps) > 1 and bool(metric.finite.all() and np.ptp(values) == 0)


def _constants(stage: Stage, names: list[str]) -> str:
    """What never changed, as one list that opens on a click."""
    if not names:
        return ""
    entries = "".join(_constant(stage.metrics[name]) for name in names)
    verb = "has" if len(names) == 1 else "have"
    return (
        f'<details class="constants"><summary>{count(len(names), "metric")} that {verb} not '
        f"changed</summary><dl>{entries}</dl></details>"
    )


def _constant(metric: Series) -> str:
    text, value = text_for(metric.name), short_number(float(metric.values.flat[0]))
    return (
        f"<dt>{html.escape(text.title)} = {value}</dt>"
        f"<dd>{html.escape(text.meaning)} <code>{html.escape(metric.name)}</code></dd>"
    )


def cold_start_section(stage: Stage) -> str:
    """The HTML of a stage of supervised learning."""
    constant = [name for name in _in_order(stage) if _is_constant(stage.metrics[name])]
    return (
        f'<section><h2>{html.escape(stage.title)}</h2><p class="lead">Supervised learning from '
        f"demonstrations, before reinforcement. {_how_to_read(stage)}</p>"
        f"{_grid(stage, [n for n in _in_order(stage) if n not in constant])}"
        f"{_constants(stage, constant)}</section>"
    )


def _in_order(stage: Stage) -> list[str]:
    """The stage's metrics: those with a text in the order of the texts, then the others."""
    described = [name for name in METRIC_TEXTS if name in stage.metrics]
    return described + [name for name in stage.metrics if name not in METRIC_TEXTS]


def _grid(stage: Stage, names: Iterable[str]) -> str:
    figures = "".join(_curve(stage.name, stage.metrics[name]) for name in names)
    return f'<div class="curves">{figures}</div>'


def _curve(stage_name: str, metric: Series) -> str:
    text = text_for(metric.name)
    key = f"curve/{stage_name}/{metric.name}"
    if not metric.has_layers:
        values = _in_short(metric)
        drawing = curve_svg(metric, title=text.title, log_scale=text.log_scale, size=SMALL, key=key)
    else:
        values = ""
        drawing = layers_svg(metric, title=text.title, size=SMALL, key=key)
    return (
        f'<figure class="{text.group.name}"><div class="title"><div>'
        f"{html.escape(text.title)}</div><span>{values}</span></div>{drawing}"
        f"<figcaption>{html.escape(text.meaning)} <code>{html.escape(metric.name)}</code>"
        f"</figcaption>{_notes(metric, text.log_scale)}</figure>"
    )


def _in_short(series: Series) -> str:
    """First and last value of a few; of many, the last."""
    last = short_number(series.values[-1])
    if 1 < len(series.values) <= SMOOTHED_FROM:
        return f"{short_number(series.values[0])} → {last}"
    return f"last {last}"


def _notes(metric: Series | None, log_scale: bool) -> str:
    notes = [] if metric is None else curve_notes(metric, log_scale)
    return f'<p class="note">{html.escape(" ".join(notes))}</p>' if notes else ""
