"""Which remedies measured values call for, by the borders of the studies of doses.

    mismatch k3, disagreement, staleness k3 --> value of each cause --> its limit under a remedy

A limit is what is measured at a *border*: there, half of the runs end at least 0.05 below runs
without the cause. The limits in `measured_borders.json` are those of one small world, written by
`python benchmarks/remedy_rule.py --write`, which has the procedure; `steadyrl study rule` tests
them on fresh runs.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from typing import Any, Literal

from steadyrl.base.wording import short_number


class Origin(StrEnum):
    """What a run suffers from, as far as measurements can tell."""

    ROUTING = "routing"
    """Engine and trainer choose different experts."""

    NUMERICS = "numerics"
    """Engine and trainer compute differently, with mostly the same experts."""

    STALENESS = "staleness"
    """Many gradient steps on each rollout."""

    STEP_SIZE = "step size"
    """Large gradient steps, whatever their number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a run shows soon after its warm-up, without a remedy."""

    mismatch: float
    """k3 of engine and trainer at equal weights, nats a token."""

    disagreement: float | None
    """Share of router decisions in which they differ; None: not a Mixture of Experts."""

    staleness: float
    """k3 of the trainer before and after the updates of a rollout."""

    mini_batches: int
    """Gradient steps on each rollout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InUse:
    """The remedies of a run."""

    importance_weights: bool = True
    clipping: bool = True

    replay: Literal["none", "r2", "r3"] = "none"
    """Routing replay."""

    def against(self, origin: Origin) -> str:
        """The name of the column of limits that holds for `origin`."""
        match origin:
            case Origin.ROUTING:
                return self.replay
            case Origin.NUMERICS:
                return "importance weights" if self.importance_weights else "none"
            case Origin.STALENESS | Origin.STEP_SIZE:
                replayed = self.replay != "none"
                clipping = "clipping and replay" if replayed else "clipping"
                return clipping if self.clipping else "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Excess:
    """An origin whose measured value lies above its limit under the remedies in use."""

    origin: Origin
    value: float
    limit: float

    remedy: str | None
    """The first remedy whose limit is not exceeded; None: no remedy suffices, so that the cause has
    to be mended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemedyRule:
    """Limits of each origin, by remedy from the first, which is none at all."""

    limits: Mapping[Origin, Mapping[str, float]]

    split: tuple[float, float] | None
    """(a, b): a mismatch is one of routing if the disagreement is above exp(a + b log k3). None:
    it is one of numerics."""

    def values(self, measured: Measured) -> dict[Origin, float]:
        """The value of each origin. Those of a mismatch of the other origin are 0."""
        of_routing = self._is_of_routing(measured)
        return {
            Origin.ROUTING: measured.mismatch if of_routing else 0.0,
            Origin.NUMERICS: 0.0 if of_routing else measured.mismatch,
            Origin.STALENESS: measured.staleness,
            Origin.STEP_SIZE: measured.staleness / measured.mini_batches**2,
        }

    def excesses(self, measured: Measured, in_use: InUse) -> Iterator[Excess]:
        """The origins that make half of the runs or more lose under these remedies."""
        for origin, value in self.values(measured).items():
            limits = self.limits.get(origin)
            if not limits:
                continue
            none = next(iter(limits.values()))
            limit = limits.get(in_use.against(origin), none)
            if value > limit:
                better = (name for name, other in limits.items() if value <= other)
                yield Excess(origin=origin, value=value, limit=limit, remedy=next(better, None))

    def bears(self, measured: Measured, in_use: InUse) -> bool:
        """Whether a run with these remedies keeps its score."""
        return not any(True for _ in self.excesses(measured, in_use))

    def to_values(self) -> dict[str, Any]:
        """The rule as JSON holds it."""
        return {
            "limits": {
                origin.value: {name: float(f"{limit:.3g}") for name, limit in limits.items()}
                for origin, limits in self.limits.items()
            },
            "split": None if self.split is None else [round(part, 4) for part in self.split],
        }

    @classmethod
    def of_values(cls, values: Mapping[str, Any]) -> "RemedyRule":
        """The rule that JSON holds, where infinity is a string."""
        split = values["split"]
        return cls(
            limits={
                Origin(origin): {name: float(limit) for name, limit in limits.items()}
                for origin, limits in values["limits"].items()
            },
            split=None if split is None else (split[0], split[1]),
        )

    def _is_of_routing(self, measured: Measured) -> bool:
        if measured.disagreement is None or self.split is None:
            return False
        shift, slope = self.split
        k3 = math.log(max(measured.mismatch, 1e-12))
        return measured.disagreement > math.exp(shift + slope * k3)


def measured_rule() -> RemedyRule:
    """The rule of the measured borders."""
    file = files("steadyrl.analysis") / "measured_borders.json"
    return RemedyRule.of_values(json.loads(file.read_text(encoding="utf-8")))


def in_words(excess: Excess) -> str:
    """An excess as a sentence."""
    measure = "mismatch k3" if excess.origin in MISMATCHES else "staleness k3"
    if excess.origin is Origin.STEP_SIZE:
        measure += " over the square of the mini-batches"
    advice = (
        f"use {excess.remedy}, under which that border is higher"
        if excess.remedy is not None
        else "no remedy was measured to suffice, so mend the cause"
    )
    return (
        f"{excess.origin.capitalize()}: a {measure} of {short_number(excess.value)} is above "
        f"{short_number(excess.limit)}, where half of the runs of a small world end lower by 0.05 "
        f"(`steadyrl study rule`); {advice}"
    )


MISMATCHES = (Origin.ROUTING, Origin.NUMERICS)
