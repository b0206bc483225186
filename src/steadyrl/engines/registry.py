"""Discriminated union of engine settings."""

from typing import Annotated

from steadyrl.base.variants import Variants
from steadyrl.engines.engine_settings import EngineSettings
from steadyrl.engines.local import LocalEngineSettings
from steadyrl.engines.reference import ReferenceEngineSettings
from steadyrl.engines.sglang.settings import SglangSettings
from steadyrl.engines.vllm.settings import VllmSettings

AnyEngine = Annotated[
    EngineSettings,
    Variants(
        EngineSettings,
        "steadyrl.engines",
        LocalEngineSettings,
        ReferenceEngineSettings,
        SglangSettings,
        VllmSettings,
    ),
]
"""Settings of any rollout engine."""
