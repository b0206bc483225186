"""What a run came to, as sentences of facts."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from steadyrl.report.metric_texts import text_for
from steadyrl.report.run_data import RunData, Series, Stage
from steadyrl.report.wording import count, duration, inside_sentence, short_number


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A question asked of one metric of each stage of reinforcement learning."""

    metric: str

    finding: Callable[[Series], str | None]
    """The fact that gives cause to look closer, or None. It sees finite values only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the first paragraph of a report says."""

    facts: tuple[str, ...]

    findings: tuple[str, ...]
    """What gives cause to look closer."""

    checked: tuple[str, ...]
    """Titles of the metrics that were recorded and checked."""


def verdict(run: RunData) -> Verdict:
    """The facts of `run` and what its checks found."""
    facts: list[str] = []
    findings = _not_finite(run)
    checked: list[str] = []
    for stage in run.stages:
        score = _finite(stage, "score")
        facts += [_score_fact(stage, score)] if score is not None else []
        if stage.name == "cold_start":
            continue
        for check in CHECKS:
            series = _finite(stage, check.metric)
            if series is None:
                continue
            title = text_for(check.metric).title
            checked += [title] if title not in checked else []
            finding = check.finding(series)
            findings += [f"{title}: {finding}."] if finding else []
    facts += [_progress(run), *(_course(stage) for stage in run.stages)]
    return Verdict(
        facts=tuple(filter(None, facts)), findings=tuple(findings), checked=tuple(checked)
    )


def ends(values: Float[np.ndarray, " S"]) -> tuple[float, float]:
    """The mean of the first tenth and of the last tenth of `values`."""
    tenth = max(1, len(values) // 10)
    return float(values[:tenth].mean()), float(values[-tenth:].mean())


def _finite(stage: Stage, name: str) -> Series | None:
    series = stage.series(name)
    return series.at(series.finite) if series is not None and series.finite.any() else None


def _progress(run: RunData) -> str:
    done = " and ".join(
        f"{count(stage.last_step, 'step')} of {inside_sentence(stage.title)}"
        for stage in run.stages
    )
    recorded = [series for stage in run.stages if (series := _finite(stage, "seconds"))]
    if not recorded:
        return f"The run has finished {done}."
    seconds = sum(float(series.values.sum()) for series in recorded)
    return f"The run has finished {done}, in {duration(seconds)}."


def _course(stage: Stage) -> str:
    """How reward and entropy went, or nothing where neither was recorded."""
    courses = []
    for name in ("reward", "entropy"):
        series = _finite(stage, name)
        if series is not None and len(series.steps) > 1:
            first, last = (short_number(value) for value in ends(series.values))
            title = inside_sentence(text_for(name).title)
            courses.append(f"the mean {title} went from {first} to {last}")
    if not courses:
        return ""
    return f"From the first to the last tenth of its steps {' and '.join(courses)}."


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
        return f"The held-out score{place} was {first_said} {before}; it was taken once."
    if first == last:
        return f"The held-out score{place} was {first_said} {before} and at step {end}."
    word = "rose" if last > first else "fell"
    return (
        f"The held-out score{place} {word} from {first_said} {before} "
        f"to {last_said} at step {end}{_best(score)}."
    )


def _interval_at(stage: Stage, step: int) -> str:
    """The 95% interval of the score at `step` in brackets, or nothing where it was not recorded."""
    ends_at = [
        short_number(float(series.values[series.steps == step][0]))
        for name in ("score_low", "score_high")
        if (series := stage.series(name)) is not None and step in series.steps
    ]
    return f" (95% interval {ends_at[0]} to {ends_at[1]})" if len(ends_at) == 2 else ""


def _best(score: Series) -> str:
    """Where the best score was, if neither first nor last."""
    best = int(score.values.argmax())
    if score.values[best] <= max(score.values[0], score.values[-1]):
        return ""
    return f"; its best was {short_number(float(score.values[best]))} at step {score.steps[best]}"


def _not_finite(run: RunData) -> list[str]:
    findings = []
    for stage in run.stages:
        for name, series in stage.metrics.items():
            steps = len(series.steps)
            missing = series.steps[~series.finite.reshape(steps, -1).all(axis=1)]
            if len(missing):
                findings.append(
                    f"{text_for(name).title}: not finite at {len(missing)} of "
                    f"{count(steps, 'step')}, the first being step {missing[0]}."
                )
    return findings


def _lost_score(score: Series) -> str | None:
    first, last = score.values[0], score.values[-1]
    best = int(score.values.argmax())
    if last < first:
        return "the last one lies below the one before training"
    if last < (first + score.values[best]) / 2:
        peak = f"{short_number(float(score.values[best]))} at step {score.steps[best]}"
        return f"more than half of the gain is lost since its best, {peak}"
    return None


def _lost_reward(reward: Series) -> str | None:
    first, last = ends(reward.values)
    if first - last > 0.1 * abs(first):
        return f"it ends lower than it began ({short_number(first)} to {short_number(last)})"
    return None


def _fell_tenfold(series: Series) -> str | None:
    first, last = ends(series.values)
    if last < first / 10:
        return f"it fell to less than a tenth ({short_number(first)} to {short_number(last)})"
    return None


def _rose_tenfold(series: Series) -> str | None:
    first, last = ends(series.values)
    if 0 < 10 * first < last:
        return f"it rose more than tenfold ({short_number(first)} to {short_number(last)})"
    return None


def _ever_above(limit: float) -> Callable[[Series], str | None]:
    def finding(series: Series) -> str | None:
        largest = int(series.values.argmax())
        if series.values[largest] <= limit:
            return None
        return (
            f"it reached {short_number(float(series.values[largest]))} at step "
            f"{series.steps[largest]}, above {limit}"
        )

    return finding


def _ends_below(limit: float) -> Callable[[Series], str | None]:
    def finding(series: Series) -> str | None:
        last = ends(series.values)[1]
        return f"it ends at {short_number(last)}, below {limit}" if last < limit else None

    return finding


def _ends_above(limit: float) -> Callable[[Series], str | None]:
    def finding(series: Series) -> str | None:
        last = ends(series.values)[1]
        return f"it ends at {short_number(last)}, above {limit}" if last > limit else None

    return finding


CHECKS = (
    Check(metric="score", finding=_lost_score),
    Check(metric="score_failed_fraction", finding=_ends_above(0.1)),
    Check(metric="reward", finding=_lost_reward),
    Check(metric="entropy", finding=_fell_tenfold),
    Check(metric="mismatch_kl_k3", finding=_rose_tenfold),
    Check(metric="extreme_token_fraction", finding=_ever_above(0.1)),
    Check(metric="ess", finding=_ends_below(0.5)),
    Check(metric="no_signal_fraction", finding=_ends_above(0.9)),
    Check(metric="environment_failed_fraction", finding=_ends_above(0.1)),
    Check(metric="truncated_fraction", finding=_ends_above(0.5)),
    Check(metric="gradient_norm", finding=_rose_tenfold),
)
