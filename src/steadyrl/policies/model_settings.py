"""Settings of models: small presets, and Hugging Face checkpoints."""

from datetime import date
from typing import Annotated, Literal

from pydantic import Field, model_validator

from steadyrl.base.variants import Variant, Variants


class ModelSettings(Variant):
    """Settings of the model to train."""


class SmallTransformer(ModelSettings):
    """Sizes shared by the small presets."""

    layers: int = Field(3, ge=1)

    width: int = Field(64, ge=8)

    heads: int = Field(4, ge=1)

    kv_heads: int = Field(2, ge=1)

    head_dim: int = Field(16, ge=2)

    max_positions: int = Field(4096, ge=16)

    @model_validator(mode="after")
    def _heads_fit_together(self) -> "SmallTransformer":
        if self.heads % self.kv_heads:
            raise ValueError(
                f"heads is {self.heads} and kv_heads is {self.kv_heads}. Set heads to a multiple "
                "of kv_heads."
            )
        if self.head_dim % 2:
            raise ValueError(
                f"head_dim is {self.head_dim}. Set it to an even number: rotary embeddings rotate "
                "pairs of components."
            )
        return self


class SmallMoE(SmallTransformer):
    """A small Qwen3-MoE with random weights and a character tokenizer."""

    name: Literal["small_moe"] = "small_moe"

    experts: int = Field(8, ge=2)

    experts_per_token: int = Field(2, ge=1)

    expert_width: int = Field(64, ge=8)
    """Inner width of each expert."""

    @model_validator(mode="after")
    def _experts_suffice(self) -> "SmallMoE":
        if self.experts_per_token > self.experts:
            raise ValueError(
                f"experts_per_token is {self.experts_per_token}, but there are {self.experts} "
                "experts. Raise experts or lower experts_per_token."
            )
        return self


class SmallDense(SmallTransformer):
    """The dense twin: a small Qwen3 with random weights and a character tokenizer."""

    name: Literal["small_dense"] = "small_dense"

    mlp_width: int = Field(128, ge=8)
    """Inner width of the feed-forward blocks."""


class Pretrained(ModelSettings):
    """A Hugging Face checkpoint of any causal language model."""

    name: Literal["pretrained"] = "pretrained"

    path: str
    """A folder, a GGUF file, or a repository name on the hub."""

    revision: str | None = None
    """Branch, tag or commit of a repository on the hub. None: its main branch."""

    template_date: date | None = None
    """Date for chat templates that include the date. None: the day the run starts, which is stored
    in its configuration, so that a resumed run has the same prompts."""


AnyModel = Annotated[
    ModelSettings,
    Variants(ModelSettings, None, SmallMoE, SmallDense, Pretrained, bare=(Pretrained, "path")),
]
"""Settings of any model. A string that is not a known name is the path of a checkpoint."""
