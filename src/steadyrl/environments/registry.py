"""Discriminated unions of environment and teacher settings."""

from typing import Annotated

from steadyrl.base.variants import Variants
from steadyrl.environments.adapters.gymnasium_text import GymnasiumSettings
from steadyrl.environments.adapters.mcp_tools import MCPSettings
from steadyrl.environments.adapters.openenv_client import OpenEnvSettings
from steadyrl.environments.adapters.trl_environment import TRLSettings
from steadyrl.environments.adapters.verifiers_tasks import VerifiersSettings
from steadyrl.environments.agents import AgentSettings
from steadyrl.environments.arithmetic import ArithmeticSettings
from steadyrl.environments.arithmetic_teacher import ArithmeticTeacherSettings
from steadyrl.environments.custom import CustomSettings
from steadyrl.environments.dataset import DatasetSettings
from steadyrl.environments.frozen_lake import FrozenLakeSettings
from steadyrl.environments.hotpot_qa import HotpotQASettings
from steadyrl.environments.reasoning_gym_tasks import ReasoningGymSettings
from steadyrl.environments.settings import EnvironmentSettings, TeacherSettings
from steadyrl.environments.sokoban import SokobanSettings
from steadyrl.environments.verifiable_math import VerifiableMathSettings

AnyEnvironment = Annotated[
    EnvironmentSettings,
    Variants(
        EnvironmentSettings,
        "steadyrl.environments",
        ArithmeticSettings,
        ReasoningGymSettings,
        VerifiableMathSettings,
        FrozenLakeSettings,
        SokobanSettings,
        HotpotQASettings,
        DatasetSettings,
        AgentSettings,
        GymnasiumSettings,
        MCPSettings,
        OpenEnvSettings,
        TRLSettings,
        VerifiersSettings,
        wrapper=CustomSettings,
    ),
]
"""Settings of any environment. `module:Class` and `module:function` may also make one."""

AnyTeacher = Annotated[
    TeacherSettings, Variants(TeacherSettings, "steadyrl.teachers", ArithmeticTeacherSettings)
]
"""Settings of any teacher."""
