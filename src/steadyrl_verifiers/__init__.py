"""Environments of steadyrl as a plugin of verifiers, which finds it by the id `steadyrl-verifiers`.

verifiers takes the taskset, the environment and the harness that a module exports by this list.
"""

from steadyrl_verifiers.harness import ChatHarness
from steadyrl_verifiers.taskset import SteadyrlEnv, SteadyrlTaskset

__all__ = ["ChatHarness", "SteadyrlEnv", "SteadyrlTaskset"]
