"""Models and tokenizers from presets and from Hugging Face checkpoints."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)
from transformers.utils import logging

from steadyrl.base.errors import UserError
from steadyrl.policies.chat_templates import freeze_date
from steadyrl.policies.checkpoint_checks import check_weights
from steadyrl.policies.checkpoint_folder import read_pretrained
from steadyrl.policies.compat import dtypes_by_pattern, mark_initialized, model_of
from steadyrl.policies.float32_head import HeadDtype, widen_head
from steadyrl.policies.gguf_files import forget_quantization, gguf_file, without_foreign_tokens
from steadyrl.policies.model_settings import ModelSettings, Pretrained, SmallDense, SmallMoE
from steadyrl.policies.tokenizers import character_tokenizer

_SMALL_FAMILIES: dict[type[ModelSettings], type[PreTrainedModel]] = {
    SmallDense: Qwen3ForCausalLM,
    SmallMoE: Qwen3MoeForCausalLM,
}


def load_tokenizer(settings: ModelSettings) -> PreTrainedTokenizerBase:
    """The tokenizer that belongs to a model.

    Raises:
        UserError: the checkpoint has none, or it cannot be read.
    """
    if not isinstance(settings, Pretrained):
        return character_tokenizer()
    tokenizer: PreTrainedTokenizerBase = read_pretrained(
        AutoTokenizer, settings.path, revision=settings.revision
    )
    if gguf_file(settings.path) is not None:
        tokenizer = without_foreign_tokens(tokenizer)
    if tokenizer.get_vocab().keys() <= set(tokenizer.all_special_tokens):
        raise UserError(
            f"The checkpoint {settings.path!r} has no tokenizer, only special tokens. Save the "
            "tokenizer into the same folder as the model."
        )
    if settings.template_date is not None:
        freeze_date(tokenizer, settings.template_date)
    return tokenizer


def load_model(
    settings: ModelSettings,
    *,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    dtype: torch.dtype = torch.float32,
) -> PreTrainedModel:
    """The model in `dtype`, on the CPU, in evaluation mode (no dropout).

    It puts out no router logits, whatever its configuration says: nobody reads them.

    Raises:
        UserError: the checkpoint is missing, cannot be read, or is not whole.
    """
    if isinstance(settings, Pretrained):
        model = _checked(settings, dtype)
        _put_out_no_router_logits(model.config)
        return model.eval()
    assert isinstance(settings, SmallMoE | SmallDense)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _small_model(settings, tokenizer)
        return _typed(model, _on_no_device(model, dtype)[1]).eval()


def _checked(settings: Pretrained, dtype: torch.dtype) -> PreTrainedModel:
    """The model of a checkpoint, whose weights are proven to be those of its files."""
    options = {"dtype": dtype, "output_loading_info": True, "ignore_mismatched_sizes": True}
    with no_progress_bars():
        model, report = read_pretrained(
            AutoModelForCausalLM, settings.path, revision=settings.revision, **options
        )
    if gguf_file(settings.path) is not None:
        forget_quantization(model)
    check_weights(model, report, settings.path)
    return cast(PreTrainedModel, model)


def empty_model(
    settings: ModelSettings, *, tokenizer: PreTrainedTokenizerBase, dtype: torch.dtype
) -> PreTrainedModel:
    """A model like that of `load_model`, built from its configuration alone, on today's default
    device: within `torch.device("meta")` it takes no memory.

    Raises:
        UserError: the checkpoint has no configuration that can be read.
    """
    return model_with(model_config(settings, tokenizer), dtype)


def model_config(
    settings: ModelSettings, tokenizer: PreTrainedTokenizerBase | None = None
) -> PreTrainedConfig:
    """The configuration of a model of Transformers.

    Args:
        tokenizer: That of a small preset, which determines its vocabulary.

    Raises:
        UserError: the checkpoint has no configuration that can be read.
    """
    if isinstance(settings, Pretrained):
        return cast(
            PreTrainedConfig,
            read_pretrained(AutoConfig, settings.path, revision=settings.revision),
        )
    assert isinstance(settings, SmallMoE | SmallDense)
    assert tokenizer is not None, "the vocabulary of a small preset is that of its tokenizer"
    return _small_config(settings, tokenizer)


def model_with(config: PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """A model of this configuration, on today's default device, whose weights mean nothing."""
    _put_out_no_router_logits(config)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return model.eval()


def set_dtype(
    model: PreTrainedModel, dtype: torch.dtype, head_dtype: HeadDtype = "model"
) -> dict[str, Tensor]:
    """Gives `model`, in place, the types that loading it in `dtype` would give.

    Args:
        head_dtype: float32 makes the output head compute in it. Weights that the head does not
            share with the embedding are float32 then.

    Returns:
        Parameters that lose precision by it, as they were, by name.

    Raises:
        UserError: the head is to compute in float32, and is not a linear layer.
    """
    types = _on_no_device(model, dtype, head_dtype)[1]
    if head_dtype == "float32":
        widen_head(model)
    precise = {
        name: weight.data
        for name, weight in model.named_parameters()
        if torch.finfo(types[name]).eps > torch.finfo(weight.dtype).eps
    }
    _typed(model, types)
    parts = (getattr(model.config, name) for name in model.config.sub_configs)
    for config in (model.config, *filter(None, parts)):
        config.dtype = dtype
    return precise


def model_from_config(
    model: PreTrainedModel,
    dtype: torch.dtype,
    head_dtype: HeadDtype = "model",
    *,
    device: torch.device | None = None,
) -> PreTrainedModel:
    """A model of the same architecture as `model`, whose weights must be loaded.

    Until then they are whatever the memory held. Every weight and buffer has the type that
    `from_pretrained` gives it for `dtype`: a family may keep some in float32, as routers. Buffers
    that no checkpoint holds, as rotary frequencies, are as `from_pretrained` computes them. It puts
    out no router logits. Its output head is as in `set_dtype`.

    Args:
        device: Device of the result; None: that of `model`.
    """
    twin = _typed(*_on_no_device(model, dtype, head_dtype)).to_empty(device=device or model.device)
    twin.tie_weights()
    for weight in (*twin.parameters(), *twin.state_dict(keep_vars=True).values()):
        mark_initialized(weight)  # by what is loaded
    with torch.random.fork_rng(devices=[]):
        twin.initialize_weights()
    return twin.eval()


def _put_out_no_router_logits(config: PreTrainedConfig) -> None:
    """The loss that families compute of them takes no attention masks of ours."""
    for part in (config, config.get_text_config()):
        if hasattr(part, "output_router_logits"):
            part.output_router_logits = False


def _on_no_device(
    model: PreTrainedModel, dtype: torch.dtype, head_dtype: HeadDtype = "model"
) -> tuple[PreTrainedModel, dict[str, torch.dtype]]:
    """A model like `model` without memory, and the types that `from_pretrained` would give it."""
    config = deepcopy(model.config)  # the twin may change its own settings
    _put_out_no_router_logits(config)
    with torch.device("meta"):
        empty = model_of(type(model), config, dtype)
    types = {name: tensor.dtype for name, tensor in _tensors(empty)}
    for pattern, kept in dtypes_by_pattern(empty, dtype).items():
        found = re.compile(pattern.replace("*", ".*"))
        types |= {name: kept for name in empty.state_dict() if found.search(name)}
    if head_dtype == "float32":
        types |= dict.fromkeys(widen_head(empty), torch.float32)
    return empty, types


def _typed(model: PreTrainedModel, types: Mapping[str, torch.dtype]) -> PreTrainedModel:
    """`model`, whose weights and buffers have these types."""
    for name, tensor in _tensors(model):
        tensor.data = tensor.data.to(types[name])
    return model


def _tensors(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _small_model(
    settings: SmallMoE | SmallDense, tokenizer: PreTrainedTokenizerBase
) -> PreTrainedModel:
    return _SMALL_FAMILIES[type(settings)](_small_config(settings, tokenizer))


def _small_config(
    settings: SmallMoE | SmallDense, tokenizer: PreTrainedTokenizerBase
) -> PreTrainedConfig:
    shared = {
        "vocab_size": len(tokenizer),
        "hidden_size": settings.width,
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.heads,
        "num_key_value_heads": settings.kv_heads,
        "head_dim": settings.head_dim,
        "max_position_embeddings": settings.max_positions,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
        "tie_word_embeddings": False,
    }
    if isinstance(settings, SmallDense):
        return Qwen3Config(intermediate_size=settings.mlp_width, **shared)
    return Qwen3MoeConfig(
        num_experts=settings.experts,
        num_experts_per_tok=settings.experts_per_token,
        moe_intermediate_size=settings.expert_width,
        intermediate_size=settings.expert_width,
        norm_topk_prob=True,
        **shared,
    )


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Transformers draws a bar for each folder it writes or reads, across what a caller draws."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
