"""LoRA adapters by peft: small trainable matrices beside the frozen weights of a model.

    y = W x + alpha / rank * B A x          A: [rank, in], random      B: [out, rank], zero at first

An adapted weight W is frozen (arXiv:2106.09685, section 4.1). peft replaces the layers of the model
in place, so that its class, its configuration and the hook on its routers stay as they are. A and B
are float32 over a base of any type.
"""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, field_validator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from steadyrl.base.errors import UserError, describe_error
from steadyrl.base.extras import require_extra
from steadyrl.base.settings import Settings
from steadyrl.policies.compat import commit_of
from steadyrl.policies.lora_targets import ALL_LINEAR, LoraTargets
from steadyrl.policies.merged_weights import ADAPTER, adapted_layers, adapted_parameter
from steadyrl.policies.model_settings import Pretrained
from steadyrl.policies.weights import copy_weights

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
"""Files of an adapter folder of peft's."""

_PREFIX = "base_model.model."
"""Prefix of the names that peft gives to the weights of an adapter."""


class LoraSettings(Settings):
    """A LoRA adapter. Everything else in the model is frozen, routers included."""

    rank: int = Field(16, ge=1)
    """Rank of the adapter's matrices; of each expert's, where experts are adapted."""

    alpha: float = Field(32.0, gt=0, allow_inf_nan=False)
    """The adapter's product is scaled by alpha / rank."""

    targets: tuple[str, ...] = (ALL_LINEAR,)
    """Adapted linear layers: all-linear, or names such as q_proj. The output head and routers are
    never adapted. In a Mixture-of-Experts model all-linear is the attention."""

    experts: bool = False
    """Adapt the fused weights of the experts, too. Needs dtype float32. vLLM gets merged weights
    then, so leave engine.adapter_rank out."""

    @field_validator("targets", mode="before")
    @classmethod
    def _one_name_is_a_list(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("targets")
    @classmethod
    def _are_distinct_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names or len({*names}) < len(names) or (ALL_LINEAR in names and len(names) > 1):
            raise ValueError(
                f"got {list(names)}. Give {ALL_LINEAR!r} alone, or different names of linear layers"
            )
        return names


class Adapter:
    """The LoRA adapter of a model, which is put into it in place and trained alone.

    Args:
        seed: Determines the random matrices A.

    Raises:
        UserError: peft is not installed, or cannot adapt what the settings ask for.
    """

    def __init__(self, model: PreTrainedModel, settings: LoraSettings, *, seed: int) -> None:
        require_extra("peft", "lora")
        targets = LoraTargets.of(model, settings.targets, experts=settings.experts)
        self._model = model
        self._config = _peft_config(model, settings, targets)
        self._add(ADAPTER, seed)
        paths = {path.replace(".base_layer", "") for path, _ in adapted_layers(model)}
        if paths != targets.paths:
            raise UserError(
                f"peft adapts other layers of {type(model).__name__} than asked for, as "
                f"{min(paths ^ targets.paths)}. Name the layers in learner.lora.targets, or "
                "install the version of peft in constraints.txt."
            )

    @property
    def config(self) -> dict[str, Any]:
        """Content of `adapter_config.json`."""
        values = self._config.to_dict() | {"inference_mode": True}
        return {k: sorted(v) if isinstance(v, set) else v for k, v in values.items()}

    def parameters(self, name: str = ADAPTER) -> dict[str, nn.Parameter]:
        """The weights of the adapter `name`, under the names in `adapter_model.safetensors`."""
        marked = f".{name}."
        return {
            _PREFIX + path.replace(marked, "."): weight
            for path, weight in self._model.named_parameters()
            if ".lora_" in path and marked in path
        }

    def write(self, folder: Path, name: str = ADAPTER) -> None:
        """Writes an adapter folder that peft loads."""
        weights = {name: w.detach().contiguous() for name, w in self.parameters(name).items()}
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
        (folder / CONFIG).write_text(json.dumps(self.config, indent=2), encoding="utf-8")

    def read(self, folder: Path, name: str = ADAPTER) -> dict[str, Tensor]:
        """Takes over the weights of an adapter folder, and returns them.

        Raises:
            ValueError: it holds no adapter, or names or shapes differ from this one's.
        """
        if not (folder / WEIGHTS).is_file():
            raise ValueError(f"There is no {WEIGHTS}.")
        weights: dict[str, Tensor] = load_file(folder / WEIGHTS)
        copy_weights(weights, self.parameters(name))
        return weights

    def add(self, name: str) -> None:
        """Adds a further adapter of the same shape, which is not used until `using`."""
        if not self.parameters(name):
            self._add(name, seed=0)
            self.use(ADAPTER)

    @contextmanager
    def using(self, name: str | None) -> Iterator[None]:
        """Context in which the model computes with the adapter `name`; None: without any.

        It is for forward passes without gradient.
        """
        self.use(name)
        try:
            yield
        finally:
            self.use(ADAPTER)

    def use(self, name: str | None) -> None:
        """Lets the model compute with the adapter `name`; None: without any."""
        for _, layer in adapted_layers(self._model):
            layer.enable_adapters(name is not None)
            if name is not None:
                layer.set_adapter(name, inference_mode=name != ADAPTER)

    def _add(self, name: str, seed: int) -> None:
        from peft import inject_adapter_in_model

        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")
            torch.manual_seed(seed)
            inject_adapter_in_model(self._config, self._model, adapter_name=name)
        for weight in self.parameters(name).values():
            weight.data = weight.data.float()


def _peft_config(model: PreTrainedModel, settings: LoraSettings, targets: LoraTargets) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        task_type="CAUSAL_LM",
        base_model_name_or_path=model.name_or_path or None,
        revision=commit_of(model.config),
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules=list(targets.modules),
        target_parameters=list(targets.parameters) or None,
        fan_in_fan_out=targets.transposed,
    )


@torch.no_grad()
def randomize(model: PreTrainedModel, *, share: float, seed: int) -> None:
    """Draws every B of the trained adapter, so that B A has `share` of the norm of each weight."""
    generator = torch.Generator().manual_seed(seed)
    for _, layer in adapted_layers(model):
        matrix = layer.lora_B[ADAPTER].weight
        matrix.copy_(torch.randn(matrix.shape, generator=generator))
        weight = getattr(layer.get_base_layer(), adapted_parameter(layer))
        delta = layer.get_delta_weight(ADAPTER)
        matrix.mul_(share * weight.float().norm() / delta.float().norm())


def base_of(folder: Path) -> Pretrained:
    """The base model that an adapter folder names.

    Raises:
        UserError: it names none.
    """
    content = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    path = content.get("base_model_name_or_path")
    if not path:
        raise UserError(
            f"The adapter {folder} does not name its base model. Set base_model_name_or_path in "
            f"its {CONFIG}."
        )
    return Pretrained(path=path, revision=content.get("revision"))


def merge_adapter(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """`model` with the adapter in `folder` added to its weights, in place.

    Raises:
        UserError: peft is not installed, or the adapter does not fit the model or is not finite.
    """
    require_extra("peft", "lora")
    from peft import PeftModel

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of names that Transformers renames
            warnings.filterwarnings("error", category=RuntimeWarning)
            warnings.filterwarnings("error", message="Found missing adapter keys")
            merged: PreTrainedModel = PeftModel.from_pretrained(model, folder).merge_and_unload()
    except (ValueError, RuntimeError, KeyError, OSError, Warning) as error:
        raise UserError(
            f"The adapter {folder} does not fit {type(model).__name__}: "
            f"{describe_error(error)}. Give the base model that it was trained on."
        ) from error
    for name, weight in merged.named_parameters():
        if not bool(weight.isfinite().all()):
            raise UserError(
                f"The adapter {folder} makes {name} non-finite. Give an earlier one, from before "
                "its training failed."
            )
    return merged
