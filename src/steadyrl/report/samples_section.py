"""Held-out answers as the part of the page that shows them side by side."""

import html

from steadyrl.analysis.series import Stage
from steadyrl.base.wording import count, short_number
from steadyrl.report.html_text import mark, shortened
from steadyrl.report.samples import Comparison, Pair, Sample

TASKS_SHOWN = 8


def samples_section(stage: Stage, comparison: Comparison | None) -> str:
    """The HTML of the answers to held-out tasks before and after `stage`."""
    if comparison is None:
        content = '<p class="lead">This run kept no answers to held-out tasks.</p>'
    else:
        tasks = "".join(_task(pair, comparison) for pair in comparison.shown(TASKS_SHOWN))
        content = f'<p class="lead">{html.escape(_selection(comparison))}</p>{tasks}'
    return f"<section><h2>Answers before and after</h2>{content}</section>"


def _selection(comparison: Comparison) -> str:
    """Which answers are shown, and what became of all of them."""
    shown = count(len(comparison.shown(TASKS_SHOWN)), "task")
    if comparison.after_step is None:
        return (
            f"Answers to {shown} at step {comparison.before_step}. The held-out tasks have been "
            "answered once so far."
        )
    changes = [pair.change for pair in comparison.pairs]
    better, worse = sum(change > 0 for change in changes), sum(change < 0 for change in changes)
    return (
        f"Of {count(len(changes), 'held-out answer')}, from step {comparison.before_step} to step "
        f"{comparison.after_step}, {better} became better, {worse} worse and "
        f"{len(changes) - better - worse} earned the same{_gain(comparison)}. Shown: {shown}, "
        "those that became worse first."
    )


def _gain(comparison: Comparison) -> str:
    """The 95% interval of the mean change, over tasks."""
    gain = comparison.gain
    if gain is None:
        return ""
    low, high = (short_number(end) for end in (gain.low, gain.high))
    return f": a mean change of reward between {low} and {high} (95% interval over tasks)"


def _task(pair: Pair, comparison: Comparison) -> str:
    before, after = pair.before, pair.after
    answers = _answer(before, f"Before, step {comparison.before_step}")
    if after is not None:
        answers += _answer(after, f"After, step {comparison.after_step}")
    return (
        f'<article class="task"><h3>{html.escape(before.task_id)}</h3>'
        f'<pre class="prompt">{shortened(before.prompt)}</pre>'
        f'<div class="answers">{answers}</div></article>'
    )


def _answer(sample: Sample, when: str) -> str:
    kind, verdict = mark(sample.reward)
    facts = [f"reward {short_number(sample.reward)}"]
    if sample.response_tokens is not None:
        facts.append(count(sample.response_tokens, "token"))
    if sample.finish_reason:
        facts.append(f"finish: {sample.finish_reason}")
    if sample.truncation_reason:
        facts.append(f"cut short: {sample.truncation_reason}")
    feedback = f'<p class="note">{shortened(sample.feedback)}</p>' if sample.feedback else ""
    return (
        f'<div class="answer {kind}"><header><b>{html.escape(when)}</b> '
        f'<b class="mark">{verdict}</b><br>{html.escape(" · ".join(facts))}</header>'
        f"<pre>{shortened(sample.response)}</pre>{feedback}</div>"
    )
