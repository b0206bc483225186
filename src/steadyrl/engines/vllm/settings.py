"""Settings of the engine `vllm`."""

from typing import Any, Literal

from pydantic import Field, model_validator

from steadyrl.engines.engine_settings import EngineContext, EngineSettings, PositiveOrAuto
from steadyrl.engines.protocol import Engine
from steadyrl.policies.rounding import Rounding

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
    "generation_config": "sampling",
}
"""Arguments of vLLM that follow from settings of a run: argument, and what sets it."""


class VllmSettings(EngineSettings):
    """vLLM in this process, or behind its server at `url`."""

    name: Literal["vllm"] = "vllm"

    url: str | None = Field(None, pattern=r"^https?://[^@\s]+$")
    """Address of a vLLM server. None: vLLM in this process."""

    api_key_variable: str | None = None
    """Environment variable that holds the server's key. The key itself is never written anywhere.
    """

    numerics: Literal["bfloat16", "float32"] = "bfloat16"
    """Numerics of the engine. A server must have been started with the same `--dtype`."""

    rounding: Rounding = "stochastic"
    """Rounding of a float32 learner's weights to bfloat16. nearest: small updates never reach an
    engine whose weights started on the bfloat16 grid. stochastic: unbiased, with one fixed random
    threshold per weight."""

    max_positions: int | None = Field(None, ge=2)
    """Maximum tokens of a prompt and its answer together. None: those of the model. Keys and values
    of one sequence of this length have to fit into memory. A server has its own limit."""

    max_running: int = Field(256, ge=1)
    """Maximum number of sequences decoded concurrently; of a server, requests under way."""

    cache_memory: PositiveOrAuto = "auto"
    """Memory for keys and values in MiB. auto: vLLM's choice on a GPU, 1024 on the CPU. A server
    has its own."""

    adapter_rank: int | None = Field(None, ge=1, le=512)
    """Maximum rank of the LoRA adapters that vLLM takes. The base is sent once then, and only the
    adapter at each sync. None: an adapter is merged, and all weights are sent at each sync."""

    sync_folder: str | None = None
    """Folder for weights on their way to the server, which has to see it under the same path. None:
    a temporary one. vLLM in this process gets its weights without files."""

    timeout: float = Field(600.0, gt=0.0, allow_inf_nan=False)
    """Seconds in which some answer has to end, a server has to give one, or take over weights."""

    patience: float = Field(300.0, ge=0.0, allow_inf_nan=False)
    """Seconds of further tries while a server is busy, restarting or unreachable."""

    restarts: int = Field(2, ge=0)
    """Failures between two syncs after which vLLM in this process is started again."""

    options: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of `vllm.EngineArgs`, by name, as gpu_memory_utilization."""

    def make(self, context: EngineContext) -> Engine:
        """The engine.

        Raises:
            UserError: vLLM is not installed, cannot serve the model, or its server does not answer.
        """
        from steadyrl.engines.vllm.build import vllm_engine

        return vllm_engine(self, context.policy, seed=context.seed, progress=context.progress)

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
