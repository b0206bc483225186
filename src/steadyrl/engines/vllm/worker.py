"""What runs inside a worker of vLLM, where its model is.

A server loads it by `--worker-extension-cls steadyrl.engines.vllm.worker.WorkerExtension`; in this
process the functions are called directly. vLLM is imported only here and in `library`.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_PROBE_ROWS = 16


def reload_weights(worker: Any, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Gives the worker's model the weights `tensors`, in the names of the checkpoint format."""
    _prepare(worker)
    worker.reload_weights(weights_iterator=iter(tensors))


def _prepare(worker: Any) -> None:
    """Makes vLLM lay out experts again.

    On the CPU it packs them when a model is loaded and, up to 0.32 at least, copies later ones
    unpacked over them, without an error: every expert computes something else from then on.
    """
    if worker.device.type != "cpu":
        return
    for module in worker.get_model().modules():
        method: Any = getattr(module, "quant_method", None)
        if getattr(method, "moe_kernel", None) is not None:
            method.moe_kernel = None


def differing(worker: Any, tensors: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Names, as vLLM has them, of what in the worker's model is not as a fresh load makes it.

    A second model is built from `tensors`, so there has to be memory for one.
    """
    live, fresh = worker.get_model(), _fresh_model(worker, tensors)
    loaded = dict(fresh.named_modules())
    # Where vLLM takes adapters, a layer stands in another one that adds the adapter's part.
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
    """Within it, layers register beside those of the live model, whose names they share."""
    kept = compilation.static_forward_context
    compilation.static_forward_context = {}
    try:
        yield
    finally:
        compilation.static_forward_context = kept


@torch.no_grad()
def _differing_in(live: nn.Module, fresh: nn.Module) -> Iterator[str]:
    """Names of the tensors that `live` itself holds and that differ in `fresh`."""
    held = [*live.named_parameters(recurse=False), *live.named_buffers(recurse=False)]
    others = {
        **dict(fresh.named_parameters(recurse=False)),
        **dict(fresh.named_buffers(recurse=False)),
    }
    for name, tensor in held:
        if tensor.numel() == 0 and name == "weight":  # packed for the CPU, out of sight
            if not _same_product(live, fresh):
                yield name
        elif not torch.equal(tensor, others[name].to(tensor.device)):
            yield name


def _same_product(live: Any, fresh: Any) -> bool:
    """Whether two linear layers give the same for the same input."""
    width = (
        live.input_size_per_partition
        if hasattr(live, "input_size_per_partition")
        else live.input_size
    )
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(_PROBE_ROWS, width, generator=generator).to(live.params_dtype)
    return torch.equal(live.quant_method.apply(live, x), fresh.quant_method.apply(fresh, x))


class WorkerExtension:
    """Methods that a server's workers have in addition, for `/collective_rpc`."""

    def steadyrl_reload(self, folder: str) -> None:
        """Gives the model the weights of a checkpoint folder."""
        _prepare(self)
        self.reload_weights(weights_path=folder)  # type: ignore[attr-defined]

    def steadyrl_differing(self, folder: str) -> list[str]:
        """What in the model is not as loading the checkpoint folder makes it."""
        from steadyrl.engines.vllm.checkpoint_files import read_tensors

        return differing(self, read_tensors(folder))
