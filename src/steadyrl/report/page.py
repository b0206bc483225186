"""The report of a run as one HTML page."""

import html
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from steadyrl.records.run_folder import RunFolder, write_atomically
from steadyrl.report.beside_section import beside_section
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
from steadyrl.report.episodes import read_episodes
from steadyrl.report.episodes_section import episodes_section
from steadyrl.report.figure import PANELS
from steadyrl.report.memory_record import read_writes
from steadyrl.report.memory_section import memory_section
from steadyrl.report.metric_texts import METRIC_TEXTS, MetricGroup, text_for
from steadyrl.report.run_data import LayerSeries, RunData, Series, Stage, read_run
from steadyrl.report.samples import read_comparison
from steadyrl.report.samples_section import samples_section
from steadyrl.report.style import STYLE
from steadyrl.report.verdict import Verdict, verdict
from steadyrl.report.wording import inside_sentence, short_number

EXPERIENCED = "reward_after_reflection"


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
    write_atomically(folder.report, _page(run, folder, others))
    return folder.report


def _page(run: RunData, folder: RunFolder, others: Sequence[RunData]) -> str:
    learning = [stage for stage in run.stages if stage.name != "cold_start"]
    cold_start = [stage for stage in run.stages if stage.name == "cold_start"]
    body = [_header(run, verdict(run)), beside_section(run, others)]
    for stage in learning:
        writes = read_writes(folder, stage.name)
        body += [_panels(stage), episodes_section(read_episodes(folder, stage.name, writes))]
        body += [memory_section(writes), _curves_by_group(stage)]
    body += [_cold_start(stage) for stage in cold_start]
    body += [samples_section(stage, read_comparison(folder, stage.name)) for stage in learning]
    body += [_config(run), _manifest(run)]
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(run.name)}: run report</title><style>{STYLE}</style></head>\n"
        f"<body>{''.join(body)}</body></html>\n"
    )
    return page.encode("utf-8", "replace").decode("utf-8")  # half surrogates have no bytes


def _header(run: RunData, judged: Verdict) -> str:
    known = {key: run.manifest[key] for key in ("started", "machine") if run.manifest.get(key)}
    origin = " · ".join(_as_text(value) for value in known.values())
    notes = "".join(f'<p class="note">{html.escape(note)}</p>' for note in run.notes)
    return (
        f'<header><div class="kind">Run report</div><h1>{html.escape(run.name)}</h1>'
        f'<p class="origin">{html.escape(origin)}</p>'
        f'<p class="verdict">{html.escape(" ".join(judged.facts))}</p>'
        f"{_findings(judged)}{notes}</header>"
    )


def _findings(judged: Verdict) -> str:
    if judged.findings:
        items = "".join(f"<li>{html.escape(finding)}</li>" for finding in judged.findings)
        return (
            f'<div class="findings some"><p>What asks for a closer look:</p><ul>{items}</ul></div>'
        )
    checked = ", ".join(inside_sentence(title) for title in judged.checked)
    among = f" The checks of {checked} found nothing." if checked else ""
    return f'<div class="findings"><p>Every recorded value is finite.{html.escape(among)}</p></div>'


def _panels(stage: Stage) -> str:
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
        )
        values = _in_short(series)
    return (
        f'<figure class="{text.group.name.lower()}"><div class="title"><div><i>{letter}</i>'
        f"{html.escape(text.title)}</div><span>{values}</span></div>{drawing}"
        f"{_notes(series, text.log_scale)}</figure>"
    )


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


def _curves_by_group(stage: Stage) -> str:
    sections = []
    for group in MetricGroup:
        names = [name for name in _in_order(stage) if text_for(name).group == group]
        if names:
            sections.append(f"<h3>{html.escape(group.value)}</h3>{_grid(stage, names)}")
    return f"<section><h2>What each curve means</h2>{''.join(sections)}</section>"


def _cold_start(stage: Stage) -> str:
    return (
        f'<section><h2>{html.escape(stage.title)}</h2><p class="lead">Supervised learning from '
        f"demonstrations, before reinforcement. {_how_to_read(stage)}</p>"
        f"{_grid(stage, _in_order(stage))}</section>"
    )


def _in_order(stage: Stage) -> list[str]:
    """The stage's metrics: those with a text in the order of the texts, then the others."""
    described = [name for name in METRIC_TEXTS if name in stage.metrics]
    return described + [name for name in stage.metrics if name not in METRIC_TEXTS]


def _grid(stage: Stage, names: Iterable[str]) -> str:
    figures = "".join(_curve(stage.name, stage.metrics[name]) for name in names)
    return f'<div class="curves">{figures}</div>'


def _curve(stage_name: str, metric: Series | LayerSeries) -> str:
    text = text_for(metric.name)
    key = f"curve/{stage_name}/{metric.name}"
    if isinstance(metric, Series):
        values = _in_short(metric)
        drawing = curve_svg(metric, title=text.title, log_scale=text.log_scale, size=SMALL, key=key)
    else:
        values = ""
        drawing = layers_svg(metric, title=text.title, size=SMALL, key=key)
    return (
        f'<figure class="{text.group.name.lower()}"><div class="title"><div>'
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


def _notes(metric: Series | LayerSeries | None, log_scale: bool) -> str:
    notes = [] if metric is None else curve_notes(metric, log_scale)
    return f'<p class="note">{html.escape(" ".join(notes))}</p>' if notes else ""


def _config(run: RunData) -> str:
    return (
        "<section><h2>Configuration</h2><details><summary>config.yaml, as resolved</summary>"
        f"<pre>{html.escape(run.config)}</pre></details></section>"
    )


def _manifest(run: RunData) -> str:
    entries = "".join(
        f"<dt>{html.escape(key)}</dt><dd>{html.escape(_entry(key, value))}</dd>"
        for key, value in run.manifest.items()
    )
    content = f"<dl>{entries}</dl>" if entries else "<p>The run left no run.json.</p>"
    return f"<section><h2>Where it comes from</h2>{content}</section>"


def _entry(key: str, value: Any) -> str:
    """A command as it is typed into a shell; other values as text."""
    return shlex.join(value) if key == "command" else _as_text(value)


def _as_text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_as_text(item)}" for key, item in value.items())
    if isinstance(value, list):
        return " ".join(_as_text(item) for item in value)
    return str(value)
