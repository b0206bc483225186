"""Rollout engines behind one protocol: prompts in; tokens, log-probabilities and routing out."""

from steadyrl.engines.engine_settings import EngineContext, EngineMemory, EngineSettings
from steadyrl.engines.local import LocalEngine, LocalEngineSettings
from steadyrl.engines.protocol import Engine, EngineCapabilities, Request, Sampling
from steadyrl.engines.reference import ReferenceEngine, ReferenceEngineSettings

__all__ = [
    "Engine",
    "EngineCapabilities",
    "EngineContext",
    "EngineMemory",
    "EngineSettings",
    "LocalEngine",
    "LocalEngineSettings",
    "ReferenceEngine",
    "ReferenceEngineSettings",
    "Request",
    "Sampling",
]
