"""Settings of the engine `sglang`."""

from typing import Literal

from pydantic import Field

from steadyrl.engines.engine_settings import EngineContext, EngineMemory, EngineSettings
from steadyrl.engines.protocol import Engine
from steadyrl.policies.rounding import Rounding


class SglangSettings(EngineSettings):
    """An SGLang server. Written from the documentation and source of version 0.5.23, and tested
    with replies in that format, not with a running SGLang.
    """

    name: Literal["sglang"] = "sglang"

    url: str = Field("http://127.0.0.1:30000", pattern=r"^https?://[^@\s]+$")
    """Address of the server without a path."""

    api_key_variable: str | None = None
    """Environment variable that holds the server's API key. The key is never written to a file."""

    numerics: Literal["bfloat16", "float32"] = "bfloat16"
    """Data type of weights and activations. The server must be started with the same `--dtype`."""

    rounding: Rounding = "stochastic"
    """Rounding of a float32 learner's weights to bfloat16. nearest: small updates never reach an
    engine whose weights began on the bfloat16 grid. stochastic: unbiased, with one fixed random
    threshold per weight."""

    max_running: int = Field(256, ge=1)
    """Maximum number of concurrent requests."""

    sync_folder: str | None = None
    """Folder through which weights reach the server, which must see it under the same path. None:
    the temporary folder of this machine."""

    timeout: float = Field(600.0, gt=0.0, allow_inf_nan=False)
    """Timeout of each request in seconds, which is an answer or a load of weights."""

    patience: float = Field(300.0, ge=0.0, allow_inf_nan=False)
    """Seconds for which requests are repeated while the server is busy, restarting or unreachable.
    """

    def make(self, context: EngineContext) -> Engine:
        """The engine.

        Raises:
            UserError: the server cannot be reached, or was started with unsuitable options.
        """
        from steadyrl.engines.sglang.connect import connect

        return connect(self, context)

    def memory(self, itemsize: int) -> EngineMemory:
        """Nothing on this machine."""
        return EngineMemory(weights=0)
