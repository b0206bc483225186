"""What is worth a look in a run, beside what its diagnosis rests on.

The report and `steadyrl diagnose` tell the same remarks. They change no status.
"""

from collections.abc import Callable
from dataclasses import dataclass

from steadyrl.analysis.bounds import MANY_FAILURES, TRUNCATED
from steadyrl.analysis.metric_texts import text_for
from steadyrl.analysis.run_data import RunData, Series, ends, finite
from steadyrl.base.wording import count, short_number


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A question asked of one metric of each stage of reinforcement learning."""

    metric: str

    finding: Callable[[Series], str | None]
    """The fact that gives cause to look closer, or None. It sees finite values only."""


def remarks_of(run: RunData) -> tuple[str, ...]:
    """Values that are not finite, and what the checks found."""
    found = _not_finite(run)
    for stage in run.stages:
        for check in CHECKS if stage.name != "cold_start" else ():
            series = finite(stage, check.metric)
            finding = None if series is None else check.finding(series)
            found += [f"{text_for(check.metric).title}: {finding}."] if finding else []
    return tuple(found)


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


def _ends_above(limit: float) -> Callable[[Series], str | None]:
    def finding(series: Series) -> str | None:
        last = ends(series.values)[1]
        return f"it ends at {short_number(last)}, above {limit}" if last > limit else None

    return finding


CHECKS = (
    Check(metric="score", finding=_lost_score),
    Check(metric="score_failed_fraction", finding=_ends_above(MANY_FAILURES)),
    Check(metric="reward", finding=_lost_reward),
    Check(metric="entropy", finding=_fell_tenfold),
    Check(metric="truncated_fraction", finding=_ends_above(TRUNCATED)),
)
