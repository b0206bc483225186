"""Dense checkpoints as Mixture-of-Experts models that compute the same.

    Llama, Mistral -> Mixtral      Qwen2 -> Qwen2-MoE      Qwen3 -> Qwen3-MoE

Each target has the attention of its source: its biases, its norms of queries and keys, its tied
head. Qwen2-MoE has a shared expert beside the routed ones. It is given a width of 1 and an output
of zero, so that it adds nothing until it is trained.

Experts are copies of the dense MLP (Sparse Upcycling, arXiv:2212.05055), or copies of its parts:
with `split` G, its inner units fall into G slices, and there are N = E / G copies of each
(arXiv:2410.07524). The row of the router for slice g of copy n is r_n for every g, a *virtual
group*: a token that chooses copy n chooses all of its slices, so that top-k takes K / G copies.

    MoE(x) = sum_n sum_g  w_n / G * G * slice_g(x) = MLP(x)      where sum_n w_n = 1

All three families can normalize the gates of the chosen experts to sum 1, and do so here. Without
noise the result is therefore the dense model up to rounding, whatever the router chooses. The
factor G lies on the last matrix of each slice. arXiv:2410.07524 spreads it over all three as its
cube root, which the nonlinearity of a gated MLP makes inexact.

With noise, or after the first update, experts differ and the choice matters. In bfloat16 two copies
may have the same logit; a token then takes slices of both, which do not add up to the MLP.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from transformers import (
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from steadyrl.base.errors import UserError
from steadyrl.base.settings import Settings
from steadyrl.policies.compat import model_of

_KEPT = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "head_dim"),
    *("num_key_value_heads", "hidden_act", "max_position_embeddings", "initializer_range"),
    *("rms_norm_eps", "rope_parameters", "attention_dropout", "tie_word_embeddings", "use_cache"),
    *("pad_token_id", "bos_token_id", "eos_token_id"),
)
"""Configuration fields shared by a dense model and its Mixture-of-Experts family."""


class UpcyclingSettings(Settings):
    """Conversion of dense MLPs to experts."""

    experts: int = Field(8, ge=2)
    """Experts of each layer."""

    top_k: int = Field(2, ge=1)
    """Experts that compute each token."""

    split: int = Field(1, ge=1)
    """Slices into which the inner units of the MLP are cut. 1: every expert is a whole copy."""

    noise: float = Field(0.0, ge=0.0, allow_inf_nan=False)
    """Standard deviation of Gaussian noise on the weights of each expert, relative to the root mean
    square of the matrix. 0: the result computes what the dense model does."""

    router_std: float = Field(0.02, gt=0.0, allow_inf_nan=False)
    """Standard deviation of the router's weights, which are drawn anew."""

    seed: int = Field(0, ge=0)
    """Seed of router and noise."""

    @model_validator(mode="after")
    def _groups_are_whole(self) -> "UpcyclingSettings":
        if self.top_k > self.experts:
            raise ValueError(
                f"top_k is {self.top_k}, but there are {self.experts} experts. Lower top_k or "
                "raise experts."
            )
        for name in ("experts", "top_k"):
            if getattr(self, name) % self.split:
                raise ValueError(
                    f"{name} is {getattr(self, name)}, which is not a multiple of split "
                    f"{self.split}: a token that chooses a copy of the MLP computes all of its "
                    f"slices. Set {name} to a multiple of it."
                )
        return self


@torch.no_grad()
def upcycle(dense: PreTrainedModel, settings: UpcyclingSettings) -> PreTrainedModel:
    """A Mixture-of-Experts model in the type of `dense`, on the CPU, in evaluation mode.

    Raises:
        UserError: no family of Transformers fits the architecture of `dense`.
    """
    family, config = _target(dense.config, settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        moe = model_of(family, config, dense.dtype)
    generator = torch.Generator().manual_seed(settings.seed)
    _copy_shared(dense, moe)
    for source, layer in zip(dense.model.layers, moe.model.layers, strict=True):
        block = next(part for part in layer.children() if hasattr(part, "experts"))
        _fill(block, source.mlp, settings, generator)
    moe.generation_config = dense.generation_config
    return moe.eval()


def differences(
    dense: PreTrainedModel, moe: PreTrainedModel, *, positions: int = 64
) -> Float[Tensor, " T"]:
    """At each of some fixed tokens, the largest difference of a log-probability of the next one."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(dense.config.vocab_size, (1, positions), generator=generator)
    with torch.no_grad():
        first, second = (
            model(input_ids=tokens, use_cache=False).logits[0].double().log_softmax(-1)
            for model in (dense, moe)
        )
    return (first - second).abs().amax(dim=-1)


def _target(
    config: PreTrainedConfig, settings: UpcyclingSettings
) -> tuple[type[PreTrainedModel], PreTrainedConfig]:
    """The family and configuration of the result."""
    family = _FAMILIES.get(config.model_type)
    if family is None:
        raise UserError(
            f"A model of type {config.model_type!r} cannot be upcycled: only "
            f"{', '.join(_FAMILIES)} have a Mixture-of-Experts family with the same attention."
        )
    if config.intermediate_size % settings.split:
        raise UserError(
            f"The MLP has {config.intermediate_size} inner units, which cannot be cut into "
            f"{settings.split} slices of one width. Set --split to a divisor of it."
        )
    kept = {name: getattr(config, name) for name in _KEPT if hasattr(config, name)}
    return family(config, kept, settings)


def _mixtral(
    config: Any, kept: Mapping[str, Any], settings: UpcyclingSettings
) -> tuple[type[PreTrainedModel], PreTrainedConfig]:
    for name in ("attention_bias", "mlp_bias"):
        if getattr(config, name, False):
            raise UserError(f"A Llama with {name} cannot be upcycled: Mixtral has no such bias.")
    return MixtralForCausalLM, MixtralConfig(
        **kept,
        num_local_experts=settings.experts,
        num_experts_per_tok=settings.top_k,
        intermediate_size=config.intermediate_size // settings.split,
        sliding_window=getattr(config, "sliding_window", None),
    )


def _qwen2_moe(
    config: Any, kept: Mapping[str, Any], settings: UpcyclingSettings
) -> tuple[type[PreTrainedModel], PreTrainedConfig]:
    return Qwen2MoeForCausalLM, Qwen2MoeConfig(
        **kept, **_qwen_moe(config, settings), qkv_bias=True, shared_expert_intermediate_size=1
    )


def _qwen3_moe(
    config: Any, kept: Mapping[str, Any], settings: UpcyclingSettings
) -> tuple[type[PreTrainedModel], PreTrainedConfig]:
    return Qwen3MoeForCausalLM, Qwen3MoeConfig(
        **kept, **_qwen_moe(config, settings), attention_bias=config.attention_bias
    )


def _qwen_moe(config: Any, settings: UpcyclingSettings) -> dict[str, Any]:
    """Expert configuration of both Qwen families."""
    if "sliding_attention" in config.layer_types:
        raise UserError(
            "A Qwen with sliding windows in some layers cannot be upcycled: its "
            "Mixture-of-Experts family has them in other layers."
        )
    width = config.intermediate_size // settings.split
    return {
        "num_experts": settings.experts,
        "num_experts_per_tok": settings.top_k,
        "moe_intermediate_size": width,
        "intermediate_size": width,
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "use_sliding_window": False,
    }


_Target = Callable[
    [Any, Mapping[str, Any], UpcyclingSettings], tuple[type[PreTrainedModel], PreTrainedConfig]
]
_FAMILIES: dict[str, _Target] = {
    "llama": _mixtral,
    "mistral": _mixtral,
    "qwen2": _qwen2_moe,
    "qwen3": _qwen3_moe,
}


def _copy_shared(dense: PreTrainedModel, moe: PreTrainedModel) -> None:
    """Copies every weight outside the MLPs. None of them may be left over on either side."""
    source, target = dense.state_dict(), moe.state_dict()
    shared = source.keys() & target.keys()
    assert all(".mlp." in name for name in source.keys() ^ target.keys())
    for name in shared:
        target[name].copy_(source[name])


def _fill(block: Any, mlp: Any, settings: UpcyclingSettings, generator: torch.Generator) -> None:
    """Makes the router and the experts of one layer."""
    copies, parts = settings.experts // settings.split, settings.split
    gate, up, down = (getattr(mlp, f"{n}_proj").weight for n in ("gate", "up", "down"))
    slices = [torch.cat([g, u]) for g, u in zip(gate.chunk(parts), up.chunk(parts), strict=True)]
    block.experts.gate_up_proj.copy_(torch.stack(slices).repeat(copies, 1, 1))
    ends = torch.stack(down.chunk(parts, dim=1)) * parts
    block.experts.down_proj.copy_(ends.repeat(copies, 1, 1))
    rows = torch.randn(copies, gate.shape[1], generator=generator) * settings.router_std
    block.gate.weight.copy_(rows.repeat_interleave(parts, dim=0))
    if settings.noise:
        for weight in (block.experts.gate_up_proj, block.experts.down_proj):
            _perturb(weight, settings.noise, generator)
    if hasattr(block, "shared_expert"):
        block.shared_expert.down_proj.weight.zero_()


def _perturb(weight: nn.Parameter, noise: float, generator: torch.Generator) -> None:
    """Adds Gaussian noise to each expert's matrix, relative to its root mean square."""
    for matrix in weight:
        scale = noise * matrix.float().square().mean().sqrt()
        drawn: Tensor = torch.randn(matrix.shape, generator=generator)
        matrix.add_((drawn * scale).to(matrix.dtype))
