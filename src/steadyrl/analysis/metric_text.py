"""What is said of one metric, and under which heading."""

from dataclasses import dataclass
from enum import StrEnum


class MetricGroup(StrEnum):
    """Under which heading a metric is shown, in this order."""

    OUTCOME = "Does it learn?"
    EXPERIENCE = "What comes of reflecting?"
    POLICY = "What does it write?"
    MISMATCH = "Do engine and trainer agree?"
    CORRECTION = "How much is stale, corrected and clipped?"
    OPTIMISATION = "Is the optimisation calm?"
    SPEED = "Where does the time go?"
    OTHER = "Other metrics"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricText:
    """A metric for a reader who sees its curve.

    Example:
        MetricText(title="Training reward", meaning="Mean reward of the episodes of a step. ...",
                   log_scale=False, group=MetricGroup.OUTCOME)
    """

    title: str

    meaning: str
    """What it measures, what healthy looks like, what trouble looks like."""

    log_scale: bool
    """Whether its healthy and its troubled values lie orders of magnitude apart."""

    group: MetricGroup
