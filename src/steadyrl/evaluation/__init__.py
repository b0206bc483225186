"""Evaluation of a policy on held-out tasks and off-task texts."""

from steadyrl.evaluation.accuracy import Accuracy, EvaluationSettings, measure_accuracy
from steadyrl.evaluation.drift import DriftProbe

__all__ = [
    "Accuracy",
    "DriftProbe",
    "EvaluationSettings",
    "measure_accuracy",
]
