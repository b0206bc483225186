"""Field types for objectives and corrections: a built-in one by name, or a user-defined class."""

from typing import Annotated

from steadyrl.base.variants import Variants
from steadyrl.objectives.cispo import CISPO
from steadyrl.objectives.corrections import Correction, Masking, NoCorrection, Truncation
from steadyrl.objectives.dppo import DPPO
from steadyrl.objectives.dual_clip import DualClip
from steadyrl.objectives.grpo import GRPO
from steadyrl.objectives.gspo import GSPO
from steadyrl.objectives.gspo_token import GSPOToken
from steadyrl.objectives.minirl import MiniRL
from steadyrl.objectives.objective import Objective
from steadyrl.objectives.reinforce import Reinforce
from steadyrl.objectives.rspo import RSPO
from steadyrl.objectives.score_centering import ScoreCentering

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

AnyCorrection = Annotated[
    Correction,
    Variants(Correction, "steadyrl.corrections", NoCorrection, Truncation, Masking, ScoreCentering),
]
