"""Off-task questions before and after, as a part of the page."""

import html
from collections.abc import Mapping
from typing import Any

from steadyrl.analysis.series import Stage
from steadyrl.base.wording import short_number
from steadyrl.records.run_folder import RunFolder, read_json_lines
from steadyrl.report.html_text import shortened

Row = Mapping[str, Any]


def drift_section(folder: RunFolder, stage: Stage) -> str:
    """The HTML of what `stage` forgot; nothing where no off-task text was scored."""
    prefix = f"drift_{stage.name}-"
    paths = sorted(folder.completions.glob(f"{prefix}*.jsonl"))
    told = [(path, rows) for path in paths if _answered(rows := read_json_lines(path))]
    if not told:
        return ""
    steps = [int(path.stem.removeprefix(prefix)) for path, _ in told]
    first, last = told[0][1], told[-1][1]
    after = {row["question"]: row for row in last} if len(told) > 1 else {}
    questions = [row for row in first if row["question"]]
    lines = "".join(_row(row, after.get(row["question"])) for row in questions)
    then = f"<th>After, step {steps[-1]}</th>" if after else ""
    return (
        '<section><h2>What it was not trained on</h2><p class="lead">'
        f"{html.escape(_lead(stage))}</p>"
        f'<table class="drift"><thead><tr><th>Question</th><th>Before, step {steps[0]}</th>{then}'
        f"<th>Nats per token of the right answer</th></tr></thead><tbody>{lines}</tbody></table>"
        "</section>"
    )


def _answered(rows: list[dict[str, Any]]) -> bool:
    return any(row["response"] is not None for row in rows)


def _lead(stage: Stage) -> str:
    series = stage.finite("drift_loglikelihood")
    text = "Greedy answers to a few fixed questions, which no task of the run asks."
    if series is None or len(series.steps) < 2:
        return text
    drift = float(series.values[-1])
    word = "fell" if drift < 0 else "rose"
    return (
        f"{text} The log-likelihood of general answers and prose {word} by "
        f"{short_number(abs(drift))} nats per token by step {series.steps[-1]}."
    )


def _row(before: Row, after: Row | None) -> str:
    cells = [before["question"], before["response"] or ""]
    course = short_number(_per_token(before))
    if after is not None:
        cells.append(after["response"] or "")
        course += f" → {short_number(_per_token(after))}"
    told = "".join(f"<td>{shortened(cell)}</td>" for cell in cells)
    return f"<tr>{told}<td>{course}</td></tr>"


def _per_token(row: Row) -> float:
    return float(row["loglikelihood"]) / int(row["tokens"])
