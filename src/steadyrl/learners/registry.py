"""Learners by name."""

from typing import Annotated

from steadyrl.base.variants import Variants
from steadyrl.learners.local import LocalLearnerSettings
from steadyrl.learners.settings import LearnerSettings

AnyLearner = Annotated[
    LearnerSettings, Variants(LearnerSettings, "steadyrl.learners", LocalLearnerSettings)
]
"""Settings of any learner."""
