"""Weight files for engines: checkpoint folders and LoRA adapters.

A checkpoint is written shard by shard, so at most one shard is held in memory beside the model.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from steadyrl.base.disk_errors import disk_errors

SHARD_BYTES = 1 << 30
"""Maximum size of a weight file in bytes, unless a single tensor is larger."""

_INDEX = "model.safetensors.index.json"
_ADAPTER = "adapter_model.safetensors"


def write_tensors(
    folder: Path, tensors: Iterable[tuple[str, Tensor]], *, shard_bytes: int = SHARD_BYTES
) -> None:
    """Writes `tensors` in the checkpoint format to the empty folder `folder`."""
    shard: dict[str, Tensor] = {}
    files_by_name: dict[str, str] = {}
    size = files = 0

    def finish() -> None:
        nonlocal shard, size, files
        files += 1
        file = f"model-{files:05d}.safetensors"
        with disk_errors(folder):
            save_file(shard, folder / file, metadata={"format": "pt"})
        files_by_name.update(dict.fromkeys(shard, file))
        shard, size = {}, 0

    for name, tensor in tensors:
        if shard and size + tensor.nbytes > shard_bytes:
            finish()
        # The source may reuse its memory for the next tensor.
        shard[name] = tensor.detach().to("cpu", copy=True).contiguous()
        size += tensor.nbytes
    finish()
    index = {"metadata": {}, "weight_map": files_by_name}
    (folder / _INDEX).write_text(json.dumps(index), encoding="utf-8")


def read_tensors(folder: str | Path) -> Iterator[tuple[str, Tensor]]:
    """Yields the tensors of a checkpoint folder."""
    for file in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(file, framework="pt") as content:
            for name in list(content.keys()):
                yield name, content.get_tensor(name)


def write_adapter(
    folder: Path, tensors: Iterable[tuple[str, Tensor]], config: dict[str, Any]
) -> None:
    """Writes a LoRA adapter in PEFT's format to `folder`."""
    held = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors}
    with disk_errors(folder):
        save_file(held, folder / _ADAPTER, metadata={"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
