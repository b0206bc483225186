"""How a vLLM of this process receives weights."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from steadyrl.engines.vllm.checkpoint_files import write_adapter
from steadyrl.engines.vllm.worker import reload_weights
from steadyrl.records.weight_source import AdapterSource


def load_model(llm: Any, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Gives the model of `llm` all its weights. No request may be running.

    Raises:
        RuntimeError: keys and values of the old weights cannot be dropped.
    """
    llm.collective_rpc(reload_weights, args=(tensors,))
    drop_caches(llm)


def load_adapter(llm: Any, weights: AdapterSource, folder: Path, serial: int) -> Any:
    """The `LoRARequest` of an adapter that `llm` has loaded. No request may be running.

    Args:
        folder: A new one for each adapter, which is written to.
        serial: A number that no other adapter of `llm` has: vLLM tells cached keys and values of
            adapters apart by their names alone.

    Raises:
        RuntimeError: the engine did not load it.
    """
    from vllm.lora.request import LoRARequest

    folder.mkdir()
    write_adapter(folder, weights.tensors(), dict(weights.adapter_config))
    request = LoRARequest(f"steadyrl-{weights.version}-{serial}", serial, str(folder))
    for other in llm.list_loras():
        llm.remove_lora(other)
    if not llm.add_lora(request) or serial not in llm.list_loras():
        raise RuntimeError(f"vLLM did not load the adapter of version {weights.version}.")
    drop_caches(llm)
    return request


def drop_caches(llm: Any) -> None:
    """Drops the keys and values of prompts that `llm` has kept.

    Raises:
        RuntimeError: it cannot, as while a request runs.
    """
    if not llm.reset_prefix_cache():
        raise RuntimeError("vLLM kept keys and values of its old weights: requests still run.")
