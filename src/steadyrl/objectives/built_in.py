"""The objectives that a configuration chooses by name."""

from typing import Annotated

from pydantic import Field

from steadyrl.objectives.cispo import CISPO
from steadyrl.objectives.dppo import DPPO
from steadyrl.objectives.dual_clip import DualClip
from steadyrl.objectives.grpo import GRPO
from steadyrl.objectives.gspo import GSPO
from steadyrl.objectives.gspo_token import GSPOToken
from steadyrl.objectives.minirl import MiniRL
from steadyrl.objectives.reinforce import Reinforce

ObjectiveSettings = Annotated[
    MiniRL | GRPO | CISPO | GSPO | GSPOToken | DualClip | DPPO | Reinforce,
    Field(discriminator="name"),
]
