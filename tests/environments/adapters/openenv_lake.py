"""Our FrozenLake and our sums behind OpenEnv servers, for tests."""

from steadyrl.environments import ArithmeticSettings, FrozenLakeSettings
from steadyrl.environments.adapters.openenv_server import openenv_app

lake = openenv_app(FrozenLakeSettings(rendering="compact", show_rulebook=True))
sums = openenv_app(ArithmeticSettings(), sessions=2)
