"""An OpenAI-compatible endpoint in front of an engine; sessions become trajectories."""

from steadyrl.gateway.gateway import Gateway
from steadyrl.gateway.limits import LimitSettings
from steadyrl.gateway.sessions import Session, SessionRules, Turn

__all__ = ["Gateway", "LimitSettings", "Session", "SessionRules", "Turn"]
