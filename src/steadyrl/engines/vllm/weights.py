"""Weight updates of a vLLM engine in this process."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from steadyrl.base.errors import UserError
from steadyrl.engines.checkpoint_files import write_adapter
from steadyrl.engines.vllm.worker import reload_weights
from steadyrl.records.weight_source import AdapterSource


def load_model(llm: Any, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Replaces all weights of the model of `llm`. No request may be running.

    Raises:
        RuntimeError: the prefix cache cannot be dropped.
    """
    llm.collective_rpc(reload_weights, args=(tensors,))
    drop_caches(llm)


def load_adapter(llm: Any, weights: AdapterSource, folder: Path, serial: int) -> Any:
    """Loads an adapter into `llm` and returns its `LoRARequest`. No request may be running.

    Args:
        folder: A new folder, to which the adapter is written.
        serial: A number that no other adapter of `llm` has. vLLM keys its prefix cache by the
            adapter's name, so every adapter needs a new one.

    Raises:
        UserError: the adapter changes experts, or has a larger rank than vLLM was started for.
        RuntimeError: vLLM did not load the adapter.
    """
    from vllm.lora.request import LoRARequest

    check_adapter(weights.adapter_config, llm.vllm_config.lora_config.max_lora_rank)
    folder.mkdir()
    write_adapter(folder, weights.tensors(), dict(weights.adapter_config))
    request = LoRARequest(f"steadyrl-{weights.version}-{serial}", serial, str(folder))
    for other in llm.list_loras():
        llm.remove_lora(other)
    if not llm.add_lora(request) or serial not in llm.list_loras():
        raise RuntimeError(f"vLLM did not load the adapter of version {weights.version}.")
    drop_caches(llm)
    return request


def check_adapter(config: Mapping[str, Any], largest_rank: int) -> None:
    """Returns if vLLM can load an adapter with PEFT's configuration `config`.

    Raises:
        UserError: the adapter changes experts, or its rank is above `largest_rank`.
    """
    if config["r"] > largest_rank:
        raise UserError(
            f"The adapter has rank {config['r']}, but vLLM was started for rank {largest_rank}. "
            f"Set engine.adapter_rank to {config['r']}."
        )
    if config.get("target_parameters"):
        raise UserError(
            "The adapter changes experts, which vLLM only takes merged. Leave engine.adapter_rank "
            "out, or set learner.lora.experts to false."
        )


def drop_caches(llm: Any) -> None:
    """Drops the prefix cache of `llm`.

    Raises:
        RuntimeError: a request is running.
    """
    if not llm.reset_prefix_cache():
        raise RuntimeError("vLLM kept its prefix cache because requests are still running.")
