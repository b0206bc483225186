"""Shapes and workloads, read from the configuration of a run without loading a model."""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from transformers import AutoConfig, PreTrainedConfig

from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.algorithms.reflection import PolicyReflection
from steadyrl.base.errors import UserError
from steadyrl.engines.engine_settings import ModelEngineSettings
from steadyrl.engines.vllm.settings import VllmSettings
from steadyrl.planning.lengths import ResponseLengths
from steadyrl.planning.settings import PlanSettings
from steadyrl.planning.shape import ModelShape
from steadyrl.planning.workload import TrainedRow, Workload
from steadyrl.policies.loading import load_tokenizer, model_config, model_with
from steadyrl.policies.model_settings import ModelSettings, Pretrained
from steadyrl.policies.model_size import (
    ROUGH_VALUES,
    ModelSize,
    multiplied_weights,
    pass_memory_with,
)
from steadyrl.run.config import RunConfig
from steadyrl.run.memory_plan import longest_response, responses_of_step, row_positions

MEASURED_LENGTH = 512
"""Positions of the pass whose saved bytes are counted."""

WINDOWED = ("sliding_attention", "chunked_attention")
UNCACHED = ("linear_attention", "mamba", "conv")
"""Types of layers by what they cache: a window of positions, or a state of constant size."""


def known_configs() -> dict[str, dict[str, Any]]:
    """Numbers of published configurations by model, with their repositories."""
    text = (files("steadyrl.planning") / "model_shapes.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def read_config(settings: ModelSettings) -> PreTrainedConfig:
    """The configuration of the model, without a download.

    Raises:
        UserError: it is neither on this machine nor among the published ones that are known.
    """
    if not isinstance(settings, Pretrained):
        return model_config(settings, load_tokenizer(settings))
    path = settings.path
    if Path(path).exists():
        return model_config(settings)
    for numbers in known_configs().values():
        if path in numbers.pop("repositories"):
            return AutoConfig.for_model(**numbers)
    cached = try_to_load_from_cache(path, "config.json") if path.count("/") == 1 else None
    if isinstance(cached, str):
        return model_config(Pretrained(path=str(Path(cached).parent)))
    raise UserError(
        f"The model {path!r} is not on this machine, and a plan downloads nothing. Give a folder "
        f"with its config.json, or one of {', '.join(known_repositories())}."
    )


def known_repositories() -> list[str]:
    """One repository of each model whose configuration is known."""
    return [numbers["repositories"][0] for numbers in known_configs().values()]


def read_shape(config: PreTrainedConfig, name: str) -> ModelShape:
    """The shape of a model with this configuration, built without memory."""
    with torch.device("meta"):
        model = model_with(config, torch.float32)
    size = ModelSize.of_model(model)
    dense, experts, head = multiplied_weights(model)
    text = config.get_text_config()
    count = 0
    if size.experts_per_token:
        names = ("num_experts", "num_local_experts", "n_routed_experts")
        count = next(value for name in names if (value := getattr(text, name, None)))
    kinds = list(getattr(text, "layer_types", None) or ["full_attention"] * size.layers)
    attending = [kind for kind in kinds if kind not in UNCACHED]
    windowed = sum(kind in WINDOWED for kind in attending)
    cached = _cached_values(text)
    return ModelShape(
        name=name,
        parameters=size.parameters,
        layers=size.layers,
        width=size.width,
        vocabulary=size.vocabulary,
        dense_weights=dense,
        expert_weights=experts,
        head_weights=head,
        experts=count,
        experts_per_token=size.experts_per_token,
        heads=text.num_attention_heads,
        kv_heads=getattr(text, "num_key_value_heads", None) or text.num_attention_heads,
        attention_width=len(attending) * text.num_attention_heads * _head_width(text),
        cached=(len(attending) - windowed) * cached,
        windowed=windowed * cached,
        window=(getattr(text, "sliding_window", None) or 0) if windowed else 0,
        layer_activations=_layer_activations(config, size),
        tensors=sum(_saved_tensors(n, p, count) for n, p in model.named_parameters()),
    )


def _head_width(config: Any) -> int:
    width: int | None = getattr(config, "head_dim", None)
    return width or config.hidden_size // config.num_attention_heads


def _cached_values(config: Any) -> int:
    """Numbers that one layer caches for a position; with latent attention, its latent vector."""
    latent = getattr(config, "kv_lora_rank", None)
    if latent:
        return int(latent + config.qk_rope_head_dim)
    return int(2 * config.num_key_value_heads * _head_width(config))


def _saved_tensors(name: str, weight: torch.Tensor, experts: int) -> int:
    """Tensors of the checkpoint that one parameter holds: of all experts, where they are fused."""
    if ".experts." not in name or weight.dim() < 3:
        return 1
    return experts * (2 if "gate_up" in name else 1)


def _layer_activations(config: PreTrainedConfig, size: ModelSize) -> float:
    """Bytes per position that a layer saves: the difference of copies with two layers and one."""
    values = config.to_dict()
    values.pop("layer_types", None)
    routed = size.experts_per_token > 0
    saved = []
    for layers in (1, 2):
        copy = type(config).from_dict(values | {"num_hidden_layers": layers})
        found = pass_memory_with(copy, routed=routed, dtype=torch.bfloat16, length=MEASURED_LENGTH)
        if found is None:
            return ROUGH_VALUES / 2 * size.width * torch.bfloat16.itemsize
        saved.append(found.activations)
    return saved[1] - saved[0]


def read_workload(config: RunConfig, settings: PlanSettings) -> Workload:
    """The work of one reinforcement step of `config`.

    Experiential RL is planned as if every first attempt failed.

    Raises:
        UserError: the mean response is longer than responses may be.
    """
    algorithm = config.algorithm
    longest = longest_response(config)
    mean = longest / 2 if settings.response_tokens == "auto" else float(settings.response_tokens)
    if mean > longest:
        raise UserError(
            f"--response-tokens is {settings.response_tokens}, but responses have at most "
            f"{longest} tokens. Lower it, or raise sampling.max_new_tokens."
        )
    prompt = float(settings.prompt_tokens)
    attempt = _row(config, prompt, mean)
    rows, sampled, most = (attempt,), mean, longest
    if isinstance(algorithm, ExperientialSettings):
        reflecting = algorithm.reflection
        reflection = 0
        if isinstance(reflecting, PolicyReflection):
            reflection = reflecting.sampling.max_new_tokens
        reflected = _row(config, prompt + mean, reflection / 2)
        second = _row(config, prompt + reflection / 2, mean)
        rows = (attempt, *((reflected,) if reflection else ()), second, attempt)
        sampled, most = 2 * mean + reflection / 2, 2 * longest + reflection
    return Workload(
        sequences=responses_of_step(config),
        group=getattr(algorithm, "group_size", 1),
        prompt=settings.prompt_tokens,
        lengths=ResponseLengths(mean=sampled, maximum=most, spread=settings.length_spread),
        rows=rows,
        updates=algorithm.gradient_steps,
        reference=algorithm.needs_reference,
        steps_ahead=config.engine.steps_ahead,
    )


def _row(config: RunConfig, prompt: float, answer: float) -> TrainedRow:
    length = prompt + answer
    computed = row_positions(config, length, answer=answer)
    return TrainedRow(length=length, computed=computed, answered=answer)


def engine_itemsize(config: RunConfig) -> int:
    """Bytes of a weight in the engine's products: 1 with FP8."""
    engine = config.engine
    if isinstance(engine, VllmSettings):
        quantization = str(engine.options.get("quantization", ""))
        if quantization.startswith("fp8"):
            return 1
        return 4 if engine.numerics == "float32" else 2
    if isinstance(engine, ModelEngineSettings):
        return engine.number_size(learner_itemsize(config))  # FP8 is emulated there
    return 2


def learner_itemsize(config: RunConfig) -> int:
    """Bytes of a weight in the learner's passes."""
    itemsize: int = getattr(torch, config.learner.dtype).itemsize
    return itemsize


def is_eager(config: RunConfig) -> bool:
    """Whether the engine runs PyTorch's operations one by one."""
    return isinstance(config.engine, ModelEngineSettings)
