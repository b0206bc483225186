"""Learners by name."""

from typing import Annotated

from steadyrl.base.variants import Variants
from steadyrl.learners.fsdp.settings import FsdpLearnerSettings
from steadyrl.learners.local import LocalLearnerSettings
from steadyrl.learners.settings import LearnerSettings

AnyLearner = Annotated[
    LearnerSettings,
    Variants(LearnerSettings, "steadyrl.learners", LocalLearnerSettings, FsdpLearnerSettings),
]
"""Settings of any learner."""
