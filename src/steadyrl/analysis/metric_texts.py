"""Descriptions of metrics, from `metrics.toml`."""

import tomllib
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

from steadyrl.analysis import signals


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricGroup:
    """The question under which metrics are shown."""

    name: str
    heading: str
    about: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricText:
    """A metric for its readers.

    Example:
        METRIC_TEXTS["reward"].title == "Training reward"
    """

    title: str

    meaning: str
    """Meaning of the metric, with healthy and troubled behavior."""

    group: MetricGroup

    definition: str = ""
    unit: str = ""

    moves_with: str = ""
    """Factors that change it."""

    log_scale: bool = False
    """Whether its healthy and its troubled values lie orders of magnitude apart."""


def text_for(name: str) -> MetricText:
    """The text of metric `name`; one that says so for a metric this package does not define.

    `reward/math` has that of `reward/NAME`, with `math` in its title.
    """
    family, _, part = name.partition("/")
    if part and (text := METRIC_TEXTS.get(f"{family}/NAME")):
        return replace(text, title=f"{text.title}: {part}")
    unknown = MetricText(
        title=name,
        meaning="Recorded by the run; it is not among the metrics that this package defines.",
        group=GROUPS["other"],
    )
    return METRIC_TEXTS.get(name, unknown)


def _text(entry: dict[str, Any]) -> MetricText:
    """The text of an entry, with line breaks joined and limits filled in."""
    limits = {name: value for name, value in vars(signals).items() if name.isupper()}
    words = {
        key: " ".join(value.split()).format_map(limits)
        for key, value in entry.items()
        if isinstance(value, str)
    }
    return MetricText(**entry | words | {"group": GROUPS[entry["group"]]})


_DATA = tomllib.loads((files("steadyrl.analysis") / "metrics.toml").read_text(encoding="utf-8"))

GROUPS = {name: MetricGroup(name=name, **entry) for name, entry in _DATA["groups"].items()}
"""By name, in the order in which they are shown."""

METRIC_TEXTS = {name: _text(entry) for name, entry in _DATA["metrics"].items()}
"""By name of the metric, in the order in which they are shown."""
