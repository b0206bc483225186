"""Held-out scores of a run beside those of others, at equal cost."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steadyrl.analysis.series import Series, Stage
from steadyrl.base.errors import UserError
from steadyrl.base.wording import short_number
from steadyrl.report.curves import WIDE, pair_svg
from steadyrl.report.run_data import RunData


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The held-out score of a run, step by step."""

    name: str
    score: Series

    responses: Series | None
    """The score against the responses sampled so far; None where the run did not count them."""


def course_of(run: RunData) -> Course:
    """The course of the reinforcement stage of `run`.

    Raises:
        UserError: it has no held-out score yet.
    """
    for stage in reversed(run.stages):
        score = stage.series("score")
        if score is not None:
            return Course(name=run.name, score=score, responses=_over_responses(stage, score))
    raise UserError(
        f"The run {run.name} has no held-out score yet, so there is nothing to draw beside another "
        "run. Wait for its first evaluation, or leave it out."
    )


def beside_section(run: RunData, others: Sequence[RunData]) -> str:
    """A figure for each of `others` with the scores of both; nothing without any.

    Raises:
        UserError: a run has no held-out score yet.
    """
    if not others:
        return ""
    own = course_of(run)
    figures = "".join(
        [_figure(own, course_of(other), number) for number, other in enumerate(others)]
    )
    return (
        '<section><h2>Beside other runs</h2><p class="lead">Held-out scores, at equal numbers of '
        "responses where both runs have counted them: one for each turn of an attempt, and one for "
        "each reflection that it wrote; evaluations, and what a held reflector or a server wrote, "
        "are not in it.</p>"
        f'<div class="panels">{figures}</div></section>'
    )


def _over_responses(stage: Stage, score: Series) -> Series | None:
    sampled = stage.series("responses")
    if sampled is None:
        return None
    so_far = [int(sampled.values[sampled.steps <= step].sum()) for step in score.steps]
    return Series(name=score.name, steps=np.array(so_far), values=score.values)


def _figure(own: Course, other: Course, number: int) -> str:
    if own.responses is not None and other.responses is not None:
        unit, one, two = "responses", own.responses, other.responses
    else:
        unit, one, two = "steps", own.score, other.score
    second = other.name if other.name != own.name else f"{other.name} (the other)"
    pair = {own.name: one, second: two}
    end = min(int(one.steps[-1]), int(two.steps[-1]))
    legend = " ".join(
        [
            f'<b class="{key}">{html.escape(name)}</b> {_score_at(series, end)}'
            for key, (name, series) in zip(("one", "other"), pair.items(), strict=True)
        ]
    )
    title = f"Held-out score over {unit}; after {end:,} of them"
    drawing = pair_svg(pair, size=WIDE, key=f"beside/{number}", unit=unit)
    return (
        f'<figure class="outcome wide"><div class="title"><div>{title}</div>'
        f'<span class="legend">{legend}</span></div>{drawing}</figure>'
    )


def _score_at(series: Series, end: int) -> str:
    """The latest score that took no more than `end`."""
    return short_number(float(series.values[series.steps <= end][-1]))
