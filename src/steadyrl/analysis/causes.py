"""Causes of problems in a run, as far as metrics reveal them, and what to change.

Equation 5 of arXiv:2512.01374 splits the weight of a token into the training-inference discrepancy
pi_old / mu_old and the policy staleness pi_theta / pi_old; its equation 6 splits each by routing.
If the weights of a run are calm and it falls all the same, its own updates move it too far.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from typing import Any

from steadyrl.analysis.departures import Departure, opening, recent
from steadyrl.analysis.metric_texts import text_for
from steadyrl.analysis.run_settings import RunSettings
from steadyrl.analysis.series import Stage
from steadyrl.analysis.signals import NOTABLE_GROWTH
from steadyrl.base.wording import short_number

_TEXTS = tomllib.loads((files("steadyrl.analysis") / "causes.toml").read_text(encoding="utf-8"))


class CauseName(StrEnum):
    """A factor of equations 5 and 6, or a fault of the setup."""

    TEMPERATURE = "temperature mismatch"
    ROUTES = "routes of other tokens"
    OTHER_POLICY = "engine and trainer are different policies"
    SAMPLING = "sampling that the log-probabilities leave out"
    STALE_ENGINE = "stale engine weights"
    ENVIRONMENT = "environment that fails"
    NO_SIGNAL = "nothing to learn from"
    LOST_UPDATES = "updates do not reach the policy"
    FORGETTING = "forgets what it was not trained on"
    LEARNING_RATE = "updates too large"
    NUMERICS = "training-inference discrepancy: numerics"
    ROUTING = "training-inference discrepancy: routing"
    STALENESS = "policy staleness: weights"
    STALE_ROUTING = "policy staleness: routing"
    DISCREPANCY = "training-inference discrepancy"
    UNRECORDED = "unknown, as its signs were not logged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """A cause, its evidence, and the recommended change."""

    name: CauseName
    reason: str
    change: str

    @classmethod
    def of(cls, entry: str, **words: Any) -> "Cause":
        """The cause of an entry in `causes.toml`, with `words` filled into its texts."""
        texts = {key: " ".join(text.split()).format(**words) for key, text in _TEXTS[entry].items()}
        name = CauseName[texts.get("name", entry).upper()]
        return cls(name=name, reason=texts["reason"], change=texts["change"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A cause that is seen directly, and where."""

    cause: Cause
    evidence: Departure


CLIPPING = {
    "dppo": "set the objective's threshold to 0.15, or to 0.05 for kl",
    "gspo": "set the objective's clip_low to 3e-4 and clip_high to 4e-4",
    "gspo_token": "set the objective's clip_low to 3e-4 and clip_high to 4e-4",
    "reinforce": "use an objective that clips, such as minirl",
}
"""Advice for objectives that do not bound the ratios of tokens."""

CLIP_RATIOS = "set the objective's clip_low to 0.2 and clip_high to 0.27"

FACTORS = ("staleness_kl_k3", "mismatch_kl_k3", "extreme_token_fraction", "ess")
"""Signals of the weight. If one of them leaves first, a factor of the weight is to blame."""

SUSPECTS = {
    "staleness_kl_k3": "a policy that is stale within a rollout",
    "mismatch_kl_k3": "a discrepancy between engine and trainer",
}
"""What cannot be ruled out where a metric was not recorded."""


def cause_of(stage: Stage, found: Sequence[Departure], settings: RunSettings) -> Cause:
    """The cause of `found`, the departures in order, of a run without a fault of its setup."""
    first = found[0]
    moved = [d for d in found if d.step == first.step and d.metric in FACTORS]
    if not moved and _staleness_grew(stage, first.step):
        return _stale(stage, first, settings)
    if not moved:
        return _of_calm_weights(stage, first, settings)
    leader = min(moved, key=lambda departure: FACTORS.index(departure.metric))
    if leader.metric == "staleness_kl_k3":
        return _too_large(settings, leader, "The discrepancy with the engine came later.")
    if leader.metric == "ess" and _staleness_leads(stage, leader.step):
        return _stale(stage, leader, settings)
    entry = "routing" if _routing_doubled(stage, leader.step) else "numerics"
    if settings.partial_log and stage.finite("routing_disagreement") is None:
        entry = "discrepancy"
    return Cause.of(entry, finding=leader.finding, numerics=settings.numerics)


def _of_calm_weights(stage: Stage, first: Departure, settings: RunSettings) -> Cause:
    """The cause where no factor of the weight has left its range, as far as it was recorded."""
    unseen = {
        metric: suspect
        for metric, suspect in SUSPECTS.items()
        if settings.partial_log and not _seen_before(stage, metric, first)
    }
    if settings.one_update:
        unseen.pop("staleness_kl_k3", None)
    if unseen:
        metrics, suspects = (" and ".join(part) for part in (map(_title, unseen), unseen.values()))
        return Cause.of("unrecorded", finding=first.finding, metrics=metrics, suspects=suspects)
    why = "Neither factor of the weight pi_theta / mu_old had left its normal range by then, "
    why += "so the updates themselves move the policy too far."
    return _too_large(settings, first, why)


def _seen_before(stage: Stage, metric: str, departure: Departure) -> bool:
    """Whether a metric was logged early enough before a departure to show its normal range."""
    seen, departed = stage.finite(metric), stage.finite(departure.metric)
    if seen is None or departed is None:
        return seen is not None
    first = int(departed.steps[0])
    return 2 * (int(seen.steps[0]) - first) <= departure.step - first


def _title(metric: str) -> str:
    return text_for(metric).title


def _staleness_grew(stage: Stage, step: int) -> bool:
    """Whether staleness has grown several times by `step`, and has the larger k3."""
    grew = _grown(stage, "staleness_kl_k3", step, NOTABLE_GROWTH)
    return grew and _staleness_leads(stage, step)


def _staleness_leads(stage: Stage, step: int) -> bool:
    """Whether staleness has the larger k3 at `step`: both are KLs in nats per token."""
    staleness, mismatch = (_at(stage, f"{name}_kl_k3", step) for name in ("staleness", "mismatch"))
    return staleness is not None and staleness > (mismatch or 0.0)


def _routing_doubled(stage: Stage, step: int) -> bool:
    """Whether engine and trainer route tokens differently twice as often as at first."""
    return _grown(stage, "routing_disagreement", step, 2.0)


def _grown(stage: Stage, metric: str, step: int, times: float) -> bool:
    now, start = _at(stage, metric, step), opening(stage, metric)
    return now is not None and now > times * (start or 0.0)


def _at(stage: Stage, metric: str, step: int) -> float | None:
    series = recent(stage, metric)
    if series is None or step not in series.steps:
        return None
    return float(series.values[series.steps == step][0])


def _too_large(settings: RunSettings, leader: Departure, why: str) -> Cause:
    rate = settings.learning_rate
    now = "" if rate is None else f" (now {short_number(rate)})"
    return Cause.of("learning_rate", finding=leader.finding, why=why, now=now)


def _how_to_clip(objective: str) -> str:
    if ":" in objective:  # a class from outside, whose settings nobody here knows
        return f"bound how far tokens move in {objective}, or use an objective that clips"
    return CLIPPING.get(objective, CLIP_RATIOS)


def _stale(stage: Stage, leader: Departure, settings: RunSettings) -> Cause:
    routing = settings.routing_replay == "none" and _routing_doubled(stage, leader.step)
    steps = [] if settings.clips else [_how_to_clip(settings.objective)]
    if routing:
        steps.append(f"set routing_replay to {'r2' if settings.mini_batches <= 2 else 'r3'!r}")
    steps.append(f"{settings.fewer_steps} or lower the learning rate")
    change = ", or ".join(steps)
    entry = "stale_routing" if routing else "staleness"
    change = f"{change[:1].upper()}{change[1:]}."
    return Cause.of(entry, finding=leader.finding, change=change)
