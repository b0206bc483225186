"""Settings of the engine `vllm`."""

from typing import Any, Literal

import torch
from pydantic import Field, model_validator

from steadyrl.engines.engine_settings import (
    EngineContext,
    EngineMemory,
    EngineSettings,
    PositiveOrAuto,
)
from steadyrl.engines.protocol import Engine
from steadyrl.policies.rounding import Rounding

ADAPTER_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Maximum ranks that vLLM accepts."""

RESERVED = {
    "model": "model",
    "load_format": "model",
    "skip_tokenizer_init": "model",
    "dtype": "engine.numerics",
    "max_model_len": "engine.max_positions",
    "max_num_seqs": "engine.max_running",
    "enable_lora": "engine.adapter_rank",
    "max_lora_rank": "engine.adapter_rank",
    "enable_return_routed_experts": "routing_replay",
    "logprobs_mode": "sampling",
    "max_logprobs": "algorithm",
    "generation_config": "sampling",
    "override_generation_config": "sampling",
    "logits_processors": "sampling",
}
"""Arguments of vLLM that a run sets itself, with the setting that determines each."""


class VllmSettings(EngineSettings):
    """vLLM, in this process or on a server."""

    name: Literal["vllm"] = "vllm"

    url: str | None = Field(None, pattern=r"^https?://[^@\s]+$")
    """Address of a vLLM server without a path, for example http://host:8000. None: vLLM in this
    process."""

    api_key_variable: str | None = None
    """Environment variable that holds the server's API key. The key is never written to a file."""

    numerics: Literal["bfloat16", "float32"] = "bfloat16"
    """Data type of weights and activations. A server must be started with the same `--dtype`."""

    rounding: Rounding = "stochastic"
    """Rounding of a float32 learner's weights to bfloat16. nearest: small updates never reach an
    engine whose weights began on the bfloat16 grid. stochastic: unbiased, with one fixed random
    threshold per weight."""

    max_positions: int | None = Field(None, ge=2)
    """Maximum tokens of a prompt and its answer together. None: the model's maximum. The key-value
    cache must hold one sequence of this length. A server has its own limit."""

    max_running: int = Field(256, ge=1)
    """Maximum number of sequences decoded concurrently. With a server: maximum number of concurrent
    requests."""

    cache_memory: PositiveOrAuto = "auto"
    """Size of the key-value cache in MiB. auto: vLLM's choice on a GPU, 1024 on the CPU. A server
    has its own."""

    adapter_rank: int | None = Field(None, ge=1, le=512)
    """Maximum rank of the LoRA adapters that vLLM takes. The base is sent once then, and only the
    adapter at each sync. None: an adapter is merged, and all weights are sent at each sync."""

    sync_folder: str | None = None
    """Folder through which weights reach the server, which must see it under the same path. None:
    the temporary folder of this machine. vLLM in this process needs no folder."""

    timeout: float = Field(600.0, gt=0.0, allow_inf_nan=False)
    """Seconds in which at least one answer must finish. With a server: timeout of each request,
    which is an answer or a load of weights."""

    patience: float = Field(300.0, ge=0.0, allow_inf_nan=False)
    """Seconds for which requests are repeated while a server is busy, restarting or unreachable."""

    restarts: int = Field(2, ge=0)
    """Maximum number of restarts of vLLM in this process between two syncs."""

    options: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of `vllm.EngineArgs` by name, for example gpu_memory_utilization."""

    def make(self, context: EngineContext) -> Engine:
        """The engine.

        Raises:
            UserError: vLLM is not installed, cannot serve the model, or its server cannot be used.
        """
        from steadyrl.engines.vllm.build import vllm_engine

        return vllm_engine(
            self,
            context.policy,
            seed=context.seed,
            progress=context.progress,
            candidates=context.candidates,
        )

    def memory(self, itemsize: int) -> EngineMemory:
        """What vLLM in this process takes; nothing on this machine with a server."""
        size = 0 if self.url else getattr(torch, self.numerics).itemsize
        return EngineMemory(weights=size, cache=size)

    @model_validator(mode="after")
    def _options_are_free(self) -> "VllmSettings":
        for name in self.options:
            if name in RESERVED:
                raise ValueError(
                    f"options.{name} is given, but it follows from {RESERVED[name]}. Leave it out."
                )
        return self

    @model_validator(mode="after")
    def _settings_are_read(self) -> "VllmSettings":
        if self.url is None:
            unread: tuple[str, ...] = ("api_key_variable", "sync_folder", "patience")
            reason = "is only read with a server. Set engine.url, or leave it out."
        else:
            unread = ("max_positions", "cache_memory", "restarts", "options")
            reason = "is not read with engine.url: start the server with it, and leave it out here."
        defaults = type(self).model_construct()
        for name in unread:
            if getattr(self, name) != getattr(defaults, name):
                raise ValueError(f"{name} {reason}")
        return self
