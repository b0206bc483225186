"""Field type for objectives: a built-in objective by name, or a user-defined class."""

from typing import Annotated

from steadyrl.base.variants import Variants
from steadyrl.objectives.cispo import CISPO
from steadyrl.objectives.dppo import DPPO
from steadyrl.objectives.dual_clip import DualClip
from steadyrl.objectives.grpo import GRPO
from steadyrl.objectives.gspo import GSPO
from steadyrl.objectives.gspo_token import GSPOToken
from steadyrl.objectives.minirl import MiniRL
from steadyrl.objectives.objective import Objective
from steadyrl.objectives.reinforce import Reinforce
from steadyrl.objectives.rspo import RSPO

AnyObjective = Annotated[
    Objective,
    Variants(
        Objective,
        "steadyrl.objectives",
        MiniRL,
        GRPO,
        CISPO,
        GSPO,
        GSPOToken,
        DualClip,
        DPPO,
        Reinforce,
        RSPO,
    ),
]
