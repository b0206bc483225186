"""Runs that other trainers made, diagnosed from their logs.

    path -> layouts (how rows lie in a file) -> trainers (whose names they bear) -> ForeignRun

Each table in `trainers` was read from the trainer's own source, whose version it names.
"""

from steadyrl.analysis.foreign.foreign_run import (
    ForeignRun,
    diagnose_in_words_of,
    read_foreign_run,
)
from steadyrl.analysis.foreign.trainers import AUTO, TRAINERS, MetricSource, Trainer
from steadyrl.analysis.foreign.translation import translated_rows

__all__ = [
    "AUTO",
    "TRAINERS",
    "ForeignRun",
    "MetricSource",
    "Trainer",
    "diagnose_in_words_of",
    "read_foreign_run",
    "translated_rows",
]
