"""The base model of a run: its name on the hub and its license, where they are known."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, hf_hub_download
from yaml import YAMLError

from steadyrl.policies.checkpoint_folder import is_local

ADAPTER_CONFIG = "adapter_config.json"
"""The file by which peft and the hub know a folder of adapters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """The model that a run began with.

    Example:
        BaseModel(name="Qwen/Qwen3-0.6B", license="apache-2.0")
    """

    name: str | None
    """Its repository on the hub; None if it has none or it is not known."""

    license: str | None
    """Its license as the hub abbreviates it; None if unknown."""

    text: str
    """A description for a reader."""


def base_model(
    config: dict[str, Any], *, name: str | None = None, license_name: str | None = None
) -> BaseModel:
    """The base model of the run that `config` describes.

    Args:
        name: Its repository on the hub, as the user states it.
        license_name: Its license, as the user states it. None: read from its model card.
    """
    model = config.get("model", {})
    path = model.get("path")
    if path is None and name is None:
        return BaseModel(
            name=None,
            license=license_name,
            text=f"none: a `{model.get('name')}` with random weights",
        )
    if name is None and not is_local(path) and not Path(path).exists():
        name = path
    if license_name is None:
        license_name = _license_of(name, path)
    if name is None:
        text = f"the local checkpoint `{Path(path).name}`"
        return BaseModel(name=None, license=license_name, text=text)
    text = f"[{name}](https://huggingface.co/{name})"
    if name == path and model.get("revision"):
        text += f" at revision `{model['revision']}`"
    return BaseModel(name=name, license=license_name, text=text)


def base_of_adapter(checkpoint: Path) -> str | None:
    """The base model that an adapter's configuration names; None if it names none."""
    content = json.loads((checkpoint / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    base = content.get("base_model_name_or_path")
    return str(base) if base else None


def _license_of(name: str | None, path: str | None) -> str | None:
    """The license that a model card states, of the folder `path` or of the repository `name`."""
    card = None if path is None else Path(path).expanduser() / "README.md"
    try:
        if card is None or not card.is_file():
            if name is None:
                return None
            card = Path(hf_hub_download(name, "README.md"))
        stated = ModelCard.load(card).data.license
    except (OSError, ValueError, YAMLError):  # no card, no network, or broken metadata
        return None
    return str(stated) if stated else None
