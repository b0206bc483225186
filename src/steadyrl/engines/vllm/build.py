"""Construction of the vLLM engine from settings and a policy."""

from functools import partial
from pathlib import Path
from typing import Any

import torch

from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.base.temporary_folder import TemporaryFolder
from steadyrl.engines.protocol import Engine, EngineCapabilities
from steadyrl.engines.served_model import ServedModel, weights_of
from steadyrl.engines.vllm.connect import connect
from steadyrl.engines.vllm.engine import VllmEngine
from steadyrl.engines.vllm.library import launch
from steadyrl.engines.vllm.settings import ADAPTER_RANKS, VllmSettings
from steadyrl.policies.policy import Policy

CPU_CACHE_MEMORY = 1 << 30
"""Default size of the key-value cache on the CPU, in bytes."""

CPU_BLOCK = 32
"""Tokens per block of the key-value cache on the CPU. Only whole blocks are shared."""


def vllm_engine(
    settings: VllmSettings,
    policy: Policy,
    *,
    seed: int,
    progress: Progress = NO_PROGRESS,
    candidates: int = 0,
) -> Engine:
    """The engine described by `settings`, with the policy's weights.

    Args:
        seed: Determines the thresholds of stochastic rounding.
        candidates: Number of most probable tokens to record, by vLLM in this process.

    Raises:
        UserError: vLLM is not installed, cannot serve the model, or its server cannot be used.
    """
    dtype = getattr(torch, settings.numerics)
    model = ServedModel.of(policy, dtype=dtype, rounding=settings.rounding, seed=seed)
    if settings.url is not None:
        return connect(settings, policy, model, progress=progress)
    limits = [each for each in (settings.max_positions, model.max_positions) if each is not None]
    capabilities = EngineCapabilities(
        max_positions=min(limits, default=None),
        routing=model.moe is not None,
        exact_draws=False,
        scoring=True,
        candidates=True,
        adapters=settings.adapter_rank is not None,
    )
    candidates = min(candidates, policy.vocabulary_size)
    return VllmEngine(
        partial(_launch, settings, model, capabilities, candidates),
        model,
        weights_of(policy, without_adapter=capabilities.adapters),
        capabilities,
        restarts=settings.restarts,
        timeout=settings.timeout,
        progress=progress,
        candidates=candidates,
    )


def _launch(
    settings: VllmSettings, model: ServedModel, capabilities: EngineCapabilities, candidates: int
) -> Any:
    """An `LLMEngine` of the model with dummy weights."""
    with TemporaryFolder() as folder:
        model.config.save_pretrained(folder)
        arguments = _arguments(settings, model, capabilities, folder)
        if candidates:
            arguments["max_logprobs"] = candidates
        return launch(arguments)


def _arguments(
    settings: VllmSettings, model: ServedModel, capabilities: EngineCapabilities, folder: Path
) -> dict[str, Any]:
    """Arguments for `vllm.EngineArgs`."""
    arguments: dict[str, Any] = {
        "model": str(folder),
        "load_format": "dummy",
        "skip_tokenizer_init": True,
        "dtype": settings.numerics,
        "max_model_len": capabilities.max_positions,
        "max_num_seqs": settings.max_running,
        "enable_return_routed_experts": model.moe is not None,
        "logprobs_mode": "processed_logprobs",
        "generation_config": "vllm",
        "disable_log_stats": True,
    }
    if settings.adapter_rank is not None:
        arguments |= {
            "enable_lora": True,
            "max_lora_rank": next(r for r in ADAPTER_RANKS if r >= settings.adapter_rank),
            "lora_target_modules": model.adapted_modules,
        }
    memory = None if settings.cache_memory == "auto" else settings.cache_memory << 20
    if not torch.cuda.is_available():
        # On the CPU, vLLM 0.30 fails at the first seeded request whose prompt is read in parts.
        arguments |= {
            "enforce_eager": True,
            "block_size": CPU_BLOCK,
            "enable_chunked_prefill": False,
        }
        memory = memory or CPU_CACHE_MEMORY
    if memory is not None:
        arguments["kv_cache_memory_bytes"] = memory
    return arguments | settings.options
