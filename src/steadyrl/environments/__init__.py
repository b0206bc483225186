"""Environments: text in; text, reward and feedback out. No tensors.

Write your own by the two methods of `Environment`; `docs/environments.md` has a complete example.
"""

from steadyrl.environments.agent_access import AgentTask, ModelAccess
from steadyrl.environments.agents import AgentSettings
from steadyrl.environments.arithmetic import Arithmetic, ArithmeticSettings
from steadyrl.environments.arithmetic_styles import Style
from steadyrl.environments.arithmetic_teacher import ArithmeticTeacher, ArithmeticTeacherSettings
from steadyrl.environments.dataset import Dataset, DatasetSettings, RewardSettings
from steadyrl.environments.frozen_lake import FrozenLake, FrozenLakeSettings
from steadyrl.environments.hotpot_qa import HotpotQA, HotpotQASettings
from steadyrl.environments.math_answers import answers_agree
from steadyrl.environments.protocol import (
    Demonstration,
    Environment,
    Episode,
    Outcome,
    Split,
    Task,
    Teacher,
)
from steadyrl.environments.reasoning_gym_tasks import ReasoningGym, ReasoningGymSettings
from steadyrl.environments.settings import EnvironmentSettings, TeacherSettings
from steadyrl.environments.sokoban import Sokoban, SokobanSettings
from steadyrl.environments.splits import split_of
from steadyrl.environments.thinking import strip_thinking
from steadyrl.environments.verifiable_math import VerifiableMath, VerifiableMathSettings
from steadyrl.records.message import Conversation, Message

__all__ = [
    "AgentSettings",
    "AgentTask",
    "Arithmetic",
    "ArithmeticSettings",
    "ArithmeticTeacher",
    "ArithmeticTeacherSettings",
    "Conversation",
    "Dataset",
    "DatasetSettings",
    "Demonstration",
    "Environment",
    "EnvironmentSettings",
    "Episode",
    "FrozenLake",
    "FrozenLakeSettings",
    "HotpotQA",
    "HotpotQASettings",
    "Message",
    "ModelAccess",
    "Outcome",
    "ReasoningGym",
    "ReasoningGymSettings",
    "RewardSettings",
    "Sokoban",
    "SokobanSettings",
    "Split",
    "Style",
    "Task",
    "Teacher",
    "TeacherSettings",
    "VerifiableMath",
    "VerifiableMathSettings",
    "answers_agree",
    "split_of",
    "strip_thinking",
]
