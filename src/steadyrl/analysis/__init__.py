"""Analysis of a run's metrics: signals, diagnosis, remarks, and the meaning of each metric.

    rows of metrics -> stages_of -> diagnose, departures, remarks_of

Nothing here imports an engine, an environment or the trainer, so other trainers can use it;
`foreign` reads their logs. Subpackages that need torch: `mismatch`, where log(pi_theta / mu_old)
comes from, source by source; `first_order`, how far the gradient of an objective is from that of
the expected reward.
"""

from steadyrl.analysis.causes import Cause, CauseName
from steadyrl.analysis.departures import Departure, departures, departures_now
from steadyrl.analysis.diagnosis import Diagnosis, Status, diagnose, has_reinforcement
from steadyrl.analysis.metric_texts import (
    GROUPS,
    METRIC_TEXTS,
    MetricGroup,
    MetricText,
    text_for,
)
from steadyrl.analysis.remarks import remarks_of
from steadyrl.analysis.run_settings import RunSettings
from steadyrl.analysis.score_changes import score_change
from steadyrl.analysis.series import Series, Stage, stages_of
from steadyrl.analysis.signals import SIGNALS, Limit, Signal

__all__ = [
    "GROUPS",
    "METRIC_TEXTS",
    "SIGNALS",
    "Cause",
    "CauseName",
    "Departure",
    "Diagnosis",
    "Limit",
    "MetricGroup",
    "MetricText",
    "RunSettings",
    "Series",
    "Signal",
    "Stage",
    "Status",
    "departures",
    "departures_now",
    "diagnose",
    "has_reinforcement",
    "remarks_of",
    "score_change",
    "stages_of",
    "text_for",
]
