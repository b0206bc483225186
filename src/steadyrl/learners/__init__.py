"""The trainer's side of the policy: scores, updates and publishes it."""

from steadyrl.learners.fsdp.settings import FsdpLearnerSettings
from steadyrl.learners.local import LocalLearner, LocalLearnerSettings
from steadyrl.learners.loss_term import LossTerm
from steadyrl.learners.micro_batches import MicroBatch, plan_micro_batches
from steadyrl.learners.optimizer import MasterOptimizer, OptimizerSettings, learning_rate
from steadyrl.learners.protocol import Learner, Scorer, Update
from steadyrl.learners.settings import LearnerContext, LearnerSettings
from steadyrl.policies.lora import LoraSettings

__all__ = [
    "FsdpLearnerSettings",
    "Learner",
    "LearnerContext",
    "LearnerSettings",
    "LocalLearner",
    "LocalLearnerSettings",
    "LoraSettings",
    "LossTerm",
    "MasterOptimizer",
    "MicroBatch",
    "OptimizerSettings",
    "Scorer",
    "Update",
    "learning_rate",
    "plan_micro_batches",
]
