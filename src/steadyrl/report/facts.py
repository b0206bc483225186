"""A summary of a run in sentences."""

from collections.abc import Sequence

from steadyrl.analysis import Series, Stage, score_change, text_for
from steadyrl.analysis.series import ends
from steadyrl.base.wording import count, duration, inside_sentence, short_number
from steadyrl.records.intervals import Interval


def facts_of(stages: Sequence[Stage]) -> tuple[str, ...]:
    """Sentences on score, progress, reward and entropy."""
    scores = [
        _score_fact(stage, score)
        for stage in stages
        if (score := stage.finite("score")) is not None
    ]
    courses = [course for stage in stages if (course := _course(stage))]
    return (*scores, _progress(stages), *courses)


def _progress(stages: Sequence[Stage]) -> str:
    done = " and ".join(
        f"{count(stage.last_step, 'step')} of {inside_sentence(stage.title)}" for stage in stages
    )
    recorded = [series for stage in stages if (series := stage.finite("seconds"))]
    if not recorded:
        return f"The run has finished {done}."
    seconds = sum(float(series.values.sum()) for series in recorded)
    return f"The run has finished {done}, in {duration(seconds)}."


def _course(stage: Stage) -> str:
    """A sentence on reward and entropy, or nothing if neither was recorded."""
    courses, longest = [], 0
    for name in ("reward", "entropy"):
        series = stage.finite(name)
        if series is not None and len(series.steps) > 1:
            first, last = (short_number(value) for value in ends(series.values))
            title = inside_sentence(text_for(name).title)
            courses.append(f"the mean {title} went from {first} to {last}")
            longest = max(longest, len(series.steps))
    if not courses:
        return ""
    part = "tenth of the steps" if longest >= 20 else "step"
    title = inside_sentence(stage.title)
    return f"From the first to the last {part} of {title} {' and '.join(courses)}."


def _score_fact(stage: Stage, score: Series) -> str:
    first, last = float(score.values[0]), float(score.values[-1])
    first_said, last_said = (
        f"{short_number(value)}{_interval_at(stage, int(step))}"
        for value, step in ((first, score.steps[0]), (last, score.steps[-1]))
    )
    start, end = int(score.steps[0]), int(score.steps[-1])
    place = f" in the {stage.title.lower()}" if stage.name != "rl" else ""
    before = "before training (step 0)" if start == 0 else f"at step {start}"
    if len(score.steps) == 1:
        return f"The held-out score{place} was {first_said} {before}; there was one evaluation."
    if first == last:
        return f"The held-out score{place} was {first_said} {before} and at step {end}."
    word, change = _direction(score_change(stage, start, end))
    return (
        f"The held-out score{place} {word} from {first_said} {before} "
        f"to {last_said} at step {end}{change}{_best(score)}."
    )


def _direction(change: Interval | None) -> tuple[str, str]:
    """The verb for a change of the score with this interval, and a clause on the interval."""
    if change is None:
        return "went", ""
    ends_at = f"{short_number(change.low)} to {short_number(change.high)}"
    if change.low <= 0 <= change.high:
        return "went", f", a change that noise explains (95% interval {ends_at})"
    return "rose" if change.low > 0 else "fell", f" (95% interval of the change {ends_at})"


def _interval_at(stage: Stage, step: int) -> str:
    """The 95% interval of the score at `step` in brackets, or nothing where it was not recorded."""
    ends_at = [
        short_number(float(series.values[series.steps == step][0]))
        for name in ("score_low", "score_high")
        if (series := stage.series(name)) is not None and step in series.steps
    ]
    return f" (95% interval {ends_at[0]} to {ends_at[1]})" if len(ends_at) == 2 else ""


def _best(score: Series) -> str:
    """The step of the best score, if neither first nor last."""
    best = int(score.values.argmax())
    if score.values[best] <= max(score.values[0], score.values[-1]):
        return ""
    return f"; its best was {short_number(float(score.values[best]))} at step {score.steps[best]}"
