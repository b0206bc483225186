"""Settings of `MiniRLTrainer`."""

from dataclasses import dataclass, field
from typing import Any

from transformers import GenerationConfig

from steadyrl.base.errors import UserError
from steadyrl.integrations.trl_names import GRPOConfig
from steadyrl.records.routing import RoutingReplay

UNUSED: dict[str, Any] = {
    "loss_type": "minirl",
    "beta": 0.0,
    "delta": None,
    "importance_sampling_level": "token",
    "top_entropy_quantile": 1.0,
    "off_policy_mask_threshold": None,
    "entropy_coef": 0.0,
    "use_adaptive_entropy": False,
    "router_aux_loss_coef": 0.0,
    "vllm_importance_sampling_correction": False,
    "use_transformers_continuous_batching": False,
}
"""Settings of TRL that would change another loss or rollout than this one, at their only value."""

FILTERS: dict[str, Any] = {
    "top_p": 1.0,
    "top_k": 0,
    "min_p": None,
    "repetition_penalty": 1.0,
    "generation_kwargs": None,
}
"""Settings of other probabilities than softmax(logits / T), at their neutral values."""

CHECKPOINT_FILTERS: dict[str, Any] = {
    "min_p": None,
    "top_h": None,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "encoder_no_repeat_ngram_size": 0,
    "bad_words_ids": None,
    "sequence_bias": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "exponential_decay_length_penalty": None,
    "guidance_scale": None,
    "min_length": 0,
    "min_new_tokens": None,
    "watermarking_config": None,
}
"""Settings in a checkpoint's generation_config.json that `generate` adds to those of TRL."""


@dataclass
class MiniRLConfig(GRPOConfig):
    """Settings of `MiniRLTrainer`: those of `GRPOConfig`, with the paper's defaults.

    `epsilon` is `clip_low` and `epsilon_high` is `clip_high` of MiniRL. Settings of TRL that this
    loss does not use are refused.

    Example:
        MiniRLConfig("out", routing_replay="r3", steps_per_generation=4)
    """

    loss_type: str = field(default="minirl", metadata={"help": "Always 'minirl'."})
    epsilon_high: float | None = field(
        default=0.27,
        metadata={"help": "Tokens with A > 0 stop at a ratio above 1 + epsilon_high."},
    )
    weight_cap: float = field(
        default=5.0, metadata={"help": "Upper bound of the importance weight pi_theta / mu_old."}
    )
    routing_replay: str = field(
        default="none",
        metadata={
            "help": "Experts in the training passes: 'none' (live), 'r2' (the trainer's under the "
            "old weights) or 'r3' (those of the rollout)."
        },
    )
    hook_routing: bool = field(
        default=True,
        metadata={"help": "Whether to measure the routing of a Mixture-of-Experts model."},
    )
    scale_rewards: str = field(
        default="none", metadata={"help": "Scale of advantages; the paper subtracts the mean."}
    )
    router_aux_loss_coef: float | None = field(default=0.0, metadata={"help": "Always 0."})
    vllm_importance_sampling_correction: bool = field(
        default=False, metadata={"help": "Always False: MiniRL weighs tokens by pi_theta / mu_old."}
    )

    def __post_init__(self) -> None:
        """Refuses settings that the trainer does not support, each with its remedy."""
        super().__post_init__()
        for name, value in UNUSED.items():
            if getattr(self, name) != value:
                raise UserError(
                    f"MiniRLTrainer does not support {name}={getattr(self, name)!r}. Set it to "
                    f"{value!r}, or use TRL's GRPOTrainer."
                )
        if self.routing_replay not in list(RoutingReplay):
            raise UserError(
                f"routing_replay is {self.routing_replay!r}. Set it to one of "
                f"{', '.join(RoutingReplay)}."
            )
        if self.replay is not RoutingReplay.NONE and not self.hook_routing:
            raise UserError("routing_replay needs the routing hook. Set hook_routing to True.")
        if self.replay is RoutingReplay.R3 and self.pad_to_multiple_of is not None:
            raise UserError(
                "routing_replay 'r3' replays routes where `generate` padded its prompts. Leave "
                "pad_to_multiple_of out."
            )
        if self.replay is RoutingReplay.R2 and self.is_on_policy:
            raise UserError(
                "routing_replay 'r2' changes nothing with one optimizer step per rollout. Raise "
                "steps_per_generation above gradient_accumulation_steps, or set 'none' or 'r3'."
            )

    @property
    def replay(self) -> RoutingReplay:
        """The replay mode."""
        return RoutingReplay(self.routing_replay)

    @property
    def is_on_policy(self) -> bool:
        """Whether every optimizer step has a rollout of its own, so that pi_old is pi_theta."""
        every = self.steps_per_generation * self.num_iterations
        return self.gradient_accumulation_steps % every == 0

    def check_filters(self) -> None:
        """Checks that tokens are sampled from the whole distribution.

        Raises:
            UserError: a filter is set.
        """
        for name, value in FILTERS.items():
            if getattr(self, name) != value:
                raise UserError(
                    f"{name} is {getattr(self, name)!r}, so tokens are sampled from other "
                    f"probabilities than MiniRL's weights assume. Set it to {value!r}."
                )


def check_checkpoint(config: GenerationConfig | None) -> None:
    """Checks that a checkpoint adds no filters of its own to what `generate` samples.

    Raises:
        UserError: it does.
    """
    for name, value in CHECKPOINT_FILTERS.items():
        found = getattr(config, name, None)
        if found is not None and found != value:
            raise UserError(
                f"generation_config.json of the model sets {name} to {found!r}, so `generate` "
                "samples from other probabilities than MiniRL's weights assume. Set "
                f"model.generation_config.{name} to None, or remove it from the file."
            )
