"""Scalar measures of a run, on which claims are tested."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from steadyrl.lab.records import BIN, RunRecord


def tenth(record: RunRecord) -> int:
    """Bins in a tenth of the run."""
    return max(1, _bins(record) // 10)


def rewards(record: RunRecord) -> Float[np.ndarray, " S"]:
    """Training reward of every bin; 0 where the run had failed by then."""
    return _to_the_end(record, "reward")


def best_reward(record: RunRecord) -> float:
    """The best mean reward over a tenth of the run."""
    size = tenth(record)
    return float(np.convolve(rewards(record), np.full(size, 1 / size), mode="valid").max())


def final_reward(record: RunRecord) -> float:
    """The mean reward over the last tenth of the run."""
    return float(rewards(record)[-tenth(record) :].mean())


def mean_reward(record: RunRecord) -> float:
    """Training reward averaged over the run: high for what is learned soon."""
    return float(rewards(record).mean())


def kept(record: RunRecord) -> float:
    """The share of its best reward that the run ends with: 1 is stable, 0 a full collapse."""
    best = best_reward(record)
    return final_reward(record) / best if best > 0 else 0.0


def first_score(record: RunRecord) -> float:
    """The held-out score before the first step."""
    return record.scores[0][1]


def best_score(record: RunRecord) -> float:
    """The best held-out score."""
    return max(score for _, score in record.scores)


def final_score(record: RunRecord) -> float:
    """The last held-out score; 0 for a run that failed before it."""
    return record.scores[-1][1] if record.failure is None else 0.0


def mean_score(record: RunRecord) -> float:
    """The held-out score averaged over the run: high for what is learned soon.

    A run that failed has a score of 0 at its end.
    """
    measured = [*record.scores, *([(record.gradient_steps, 0.0)] if record.failure else [])]
    steps, scores = np.array(measured).T
    return float(np.trapezoid(scores, steps) / (steps[-1] - steps[0]))


def score_in_equal_time(first: RunRecord, second: RunRecord) -> float:
    """The held-out score of `first` minus that of `second`, averaged over their common time.

    Time counts steps without evaluations, until the faster of the two has finished.
    """
    courses = [
        (_seconds_at_scores(run), [score for _, score in run.scores]) for run in (first, second)
    ]
    end = min(times[-1] for times, _ in courses)
    times = np.unique(np.clip(np.concatenate([times for times, _ in courses]), 0, end))
    ahead, behind = (np.interp(times, *course) for course in courses)
    return float(np.trapezoid(ahead - behind, times) / end)


def retry_reward(record: RunRecord) -> float:
    """The mean reward of second attempts in the first tenth of the run; nan without them."""
    early = record.curve("reward_reflected")[: tenth(record)]
    return float(np.nanmean(early)) if np.isfinite(early).any() else float("nan")


def retry_lift(record: RunRecord) -> float:
    """`retry_reward` minus the mean reward of first attempts at the same time.

    Second attempts are made only at failed tasks, so repeating first attempts would give less
    than 0.
    """
    return retry_reward(record) - float(record.curve("reward")[: tenth(record)].mean())


def seconds(record: RunRecord) -> float:
    """Seconds of the run's steps, without evaluations."""
    return record.seconds


def final_entropy(record: RunRecord) -> float:
    """The mean entropy over the last tenth of the run."""
    return float(_to_the_end(record, "entropy")[-tenth(record) :].mean())


def log10_mismatch(record: RunRecord) -> float:
    """The mean over the run of the decimal logarithm of the mismatch k3."""
    return float(np.log10(np.maximum(record.curve("mismatch_kl_k3"), 1e-12)).mean())


def log10_staleness(record: RunRecord) -> float:
    """The mean over the run of the decimal logarithm of the staleness k3 of rollouts.

    nan where nothing is stale.
    """
    course = record.curve("rollout_staleness_kl_k3")
    stale = course[course > 0]
    return float(np.log10(stale).mean()) if stale.size else float("nan")


def log10_gradient_norm(record: RunRecord) -> float:
    """The decimal logarithm of the gradient's norm before clipping, in the median of the run.

    Only bins in which some group had signal count; nan without any.
    """
    norms = record.curve("gradient_norm")
    felt = norms[norms > 0]
    return float(np.log10(np.median(felt))) if felt.size else float("nan")


def _to_the_end(record: RunRecord, name: str) -> Float[np.ndarray, " S"]:
    """A curve over every bin; 0 where the run had failed by then."""
    taken = record.curve(name)
    return np.pad(taken, (0, max(0, _bins(record) - len(taken))))


def _seconds_at_scores(record: RunRecord) -> Float[np.ndarray, " E"]:
    """Elapsed step seconds at each held-out score; evenly spread if not recorded."""
    taken = [steps for steps, _ in record.scores]
    course = record.curve("seconds")
    if not course.size:
        course = np.ones(_bins(record))
    edges = np.minimum(np.arange(len(course) + 1) * BIN, record.gradient_steps)
    passed = np.concatenate([[0.0], np.cumsum(course * np.diff(edges))])
    return record.seconds * np.interp(taken, edges, passed / passed[-1])


def _bins(record: RunRecord) -> int:
    return -(-record.gradient_steps // BIN)


MEASURES: dict[str, Callable[[RunRecord], float]] = {
    measure.__name__: measure
    for measure in (
        best_score,
        final_score,
        first_score,
        best_reward,
        final_reward,
        mean_reward,
        kept,
        final_entropy,
        log10_mismatch,
        log10_staleness,
        log10_gradient_norm,
        mean_score,
        retry_reward,
        retry_lift,
        seconds,
    )
}

COMPARED: dict[str, Callable[[RunRecord, RunRecord], float]] = {
    score_in_equal_time.__name__: score_in_equal_time
}
"""Measures that compare two runs: the lead of the first."""
