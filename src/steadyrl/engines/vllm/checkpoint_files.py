"""Weights in files that vLLM reads: a checkpoint folder, or a LoRA adapter.

Everything is written shard by shard, so that no more than one shard is held beside the model.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

SHARD_BYTES = 1 << 30
"""Largest size of a file of weights, unless one tensor is larger."""

_INDEX = "model.safetensors.index.json"
_ADAPTER = "adapter_model.safetensors"


def write_tensors(
    folder: Path, tensors: Iterable[tuple[str, Tensor]], *, shard_bytes: int = SHARD_BYTES
) -> None:
    """Writes `tensors`, on the CPU, to files of the checkpoint format in the empty `folder`."""
    shard: dict[str, Tensor] = {}
    places: dict[str, str] = {}
    size = files = 0

    def finish() -> None:
        nonlocal shard, size, files
        files += 1
        file = f"model-{files:05d}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        places.update(dict.fromkeys(shard, file))
        shard, size = {}, 0

    for name, tensor in tensors:
        if shard and size + tensor.nbytes > shard_bytes:
            finish()
        # A view, or a tensor that is valid until the next one is taken, would not last.
        shard[name] = tensor.detach().to("cpu", copy=True).contiguous()
        size += tensor.nbytes
    finish()
    index = {"metadata": {}, "weight_map": places}
    (folder / _INDEX).write_text(json.dumps(index), encoding="utf-8")


def read_tensors(folder: str | Path) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a checkpoint folder."""
    for file in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(file, framework="pt") as content:
            for name in list(content.keys()):
                yield name, content.get_tensor(name)


def write_adapter(
    folder: Path, tensors: Iterable[tuple[str, Tensor]], config: dict[str, Any]
) -> None:
    """Writes a LoRA adapter in peft's format to `folder`."""
    held = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors}
    save_file(held, folder / _ADAPTER, metadata={"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
