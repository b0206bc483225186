"""Code that runs inside vLLM's workers, next to the model.

A server loads it by `--worker-extension-cls steadyrl.engines.vllm.worker.WorkerExtension`. In this
process the functions are called directly. Only this module and `library` import vLLM.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_PROBE_ROWS = 16


def reload_weights(worker: Any, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Loads the weights `tensors`, named as in the checkpoint format, into the worker's model."""
    _prepare(worker)
    worker.reload_weights(weights_iterator=iter(tensors))
    _repack_head(worker)


def _prepare(worker: Any) -> None:
    """Makes vLLM repack experts on the next load.

    On the CPU, vLLM packs expert weights at the first load only. Up to version 0.32 at least, a
    reload copies unpacked weights over them without an error, and every expert is wrong.
    """
    if worker.device.type != "cpu":
        return
    for module in worker.get_model().modules():
        method: Any = getattr(module, "quant_method", None)
        if getattr(method, "moe_kernel", None) is not None:
            method.moe_kernel = None


def _repack_head(worker: Any) -> None:
    """Packs the head again, which may be tied to the embedding.

    On the CPU, vLLM computes logits with a packed copy of the head. A tied head gets no weight of
    its own, so a reload leaves the copy as it was, in version 0.30 at least.
    """
    if worker.device.type != "cpu":
        return
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

    for module in worker.get_model().modules():
        if isinstance(module, ParallelLMHead):
            module.quant_method.process_weights_after_loading(module)


def differing(worker: Any, tensors: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Names of tensors in the worker's model that differ from a fresh load of `tensors`.

    Needs memory for a second copy of the model.
    """
    live, fresh = worker.get_model(), _fresh_model(worker, tensors)
    loaded = dict(fresh.named_modules())
    # With adapters enabled, vLLM wraps each layer in one that adds the adapter's output.
    paths = {path.replace(".base_layer", ""): module for path, module in live.named_modules()}
    return [
        f"{path}.{name}" if path else name
        for path, module in paths.items()
        for name in _differing_in(module, loaded[path])
    ]


def _fresh_model(worker: Any, tensors: Iterable[tuple[str, Tensor]]) -> nn.Module:
    from vllm.config import set_current_vllm_config
    from vllm.model_executor.model_loader.utils import (
        initialize_model,
        process_weights_after_loading,
    )
    from vllm.utils.torch_utils import set_default_torch_dtype

    config, device = worker.vllm_config, worker.device
    with (
        _unregistered(config.compilation_config),
        set_current_vllm_config(config),
        set_default_torch_dtype(config.model_config.dtype),
        torch.no_grad(),
    ):
        with device:
            model = initialize_model(vllm_config=config)
        model.load_weights(iter(tensors))
        process_weights_after_loading(model, config.model_config, device)
    return model


@contextmanager
def _unregistered(compilation: Any) -> Iterator[None]:
    """Lets a second model register layers under the names of the live model."""
    kept = compilation.static_forward_context
    compilation.static_forward_context = {}
    try:
        yield
    finally:
        compilation.static_forward_context = kept


@torch.no_grad()
def _differing_in(live: nn.Module, fresh: nn.Module) -> Iterator[str]:
    """Names of the direct tensors of `live` that differ in `fresh`."""
    held = [*live.named_parameters(recurse=False), *live.named_buffers(recurse=False)]
    others = {
        **dict(fresh.named_parameters(recurse=False)),
        **dict(fresh.named_buffers(recurse=False)),
    }
    for name, tensor in held:
        packed = name == "weight" and (tensor.numel() == 0 or hasattr(live, "cpu_linear"))
        same = not packed or _same_product(live, fresh)  # what the CPU computes with
        if not same or not torch.equal(tensor, others[name].to(tensor.device)):
            yield name


def _same_product(live: Any, fresh: Any) -> bool:
    """Whether two linear layers map a random input to the same output."""
    names = ("input_size_per_partition", "input_size", "embedding_dim")
    width = next(getattr(live, name) for name in names if hasattr(live, name))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(_PROBE_ROWS, width, generator=generator).to(live.params_dtype)
    return torch.equal(live.quant_method.apply(live, x), fresh.quant_method.apply(fresh, x))


class WorkerExtension:
    """Methods of a server's workers that are called through `/collective_rpc`."""

    def steadyrl_reload(self, folder: str) -> None:
        """Loads the weights of a checkpoint folder into the model."""
        from steadyrl.engines.checkpoint_files import read_tensors

        reload_weights(self, read_tensors(folder))

    def steadyrl_differing(self, folder: str) -> list[str]:
        """Names of tensors that differ from a fresh load of the checkpoint folder."""
        from steadyrl.engines.checkpoint_files import read_tensors

        return differing(self, read_tensors(folder))
