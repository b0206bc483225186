"""The report of a run as one HTML page."""

import html
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steadyrl.analysis.diagnosis import Diagnosis, Status, diagnose, has_reinforcement
from steadyrl.analysis.remarks import remarks_of
from steadyrl.records.run_folder import RunFolder, write_atomically
from steadyrl.report.beside_section import beside_section
from steadyrl.report.curves_section import cold_start_section, curves_section, panels_section
from steadyrl.report.drift_section import drift_section
from steadyrl.report.episodes import read_episodes
from steadyrl.report.episodes_section import episodes_section
from steadyrl.report.memory_record import read_writes
from steadyrl.report.memory_section import memory_section
from steadyrl.report.run_data import RunData, read_run
from steadyrl.report.samples import read_comparison
from steadyrl.report.samples_section import samples_section
from steadyrl.report.style import STYLE
from steadyrl.report.subject import subject_of
from steadyrl.report.verdict import facts_of


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
    body = [_header(run), beside_section(run, others)]
    for stage in learning:
        writes = read_writes(folder, stage.name)
        body += [samples_section(stage, read_comparison(folder, stage.name))]
        body += [drift_section(folder, stage)]
        body += [episodes_section(read_episodes(folder, stage.name, writes))]
        body += [panels_section(stage), memory_section(writes), curves_section(stage)]
    body += [cold_start_section(stage) for stage in cold_start]
    body += [_config(run), _manifest(run)]
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(run.name)}: run report</title><style>{STYLE}</style></head>\n"
        f"<body>{''.join(body)}</body></html>\n"
    )
    return page.encode("utf-8", "replace").decode("utf-8")  # half surrogates have no bytes


def _header(run: RunData) -> str:
    known = {key: run.manifest[key] for key in ("started", "machine") if run.manifest.get(key)}
    origin = " · ".join(_as_text(value) for value in known.values())
    notes = "".join(f'<p class="note">{html.escape(note)}</p>' for note in run.notes)
    subject = "".join(
        f"<div><dt>{html.escape(title)}</dt><dd>{html.escape(text)}</dd></div>"
        for title, text in subject_of(run.config)
    )
    subject = f'<dl class="subject">{subject}</dl>' if subject else ""
    return (
        f'<header><div class="kind">Run report</div><h1>{html.escape(run.name)}</h1>'
        f'<p class="origin">{html.escape(origin)}</p>'
        f"{subject}"
        f'<p class="verdict">{html.escape(" ".join(facts_of(run)))}</p>'
        f"{_findings(run)}{notes}</header>"
    )


def _findings(run: RunData) -> str:
    """The diagnosis, as `steadyrl diagnose` tells it; of a cold start alone, the remarks."""
    if has_reinforcement(run.stages):
        diagnosis = diagnose(run.stages, run.settings)
        calm = diagnosis.status is Status.HEALTHY and not diagnosis.remarks
        content = f"<p><b>Diagnosis: {html.escape(diagnosis.heading)}.</b> {_cause(diagnosis)}</p>"
        content += _list("Evidence, the first to move first:", diagnosis.findings)
        content += _list("Worth a look:", diagnosis.remarks)
    else:
        remarks = remarks_of(run.stages)
        calm, content = not remarks, _list("Worth a look:", remarks)
        content = content or "<p>Every recorded value is finite.</p>"
    return f'<div class="findings{"" if calm else " some"}">{content}</div>'


def _cause(diagnosis: Diagnosis) -> str:
    cause = diagnosis.cause
    if cause is None:
        return "Every signal that was recorded is in its normal range."
    name = cause.name[:1].upper() + cause.name[1:]
    return f"{html.escape(f'{name}. {cause.reason}')} <b>Change:</b> {html.escape(cause.change)}"


def _list(heading: str, sentences: Sequence[str]) -> str:
    items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences)
    return f"<p>{heading}</p><ul>{items}</ul>" if items else ""


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
