"""What a rank needs to build its shard of the policy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from steadyrl.learners.adapted_model import AdaptedModel
from steadyrl.learners.fsdp.hosts import DeviceType, InitialWeights
from steadyrl.learners.settings import LearnerSettings
from steadyrl.learners.whole_model import WholeModel
from steadyrl.policies.compat import model_of
from steadyrl.policies.loading import model_from_config
from steadyrl.policies.policy import Policy
from steadyrl.records.routing import RoutingReplay
from steadyrl.records.shared_weights import Layout, layout_of


@dataclass(frozen=True, slots=True, kw_only=True)
class RankSetup:
    """The policy and the settings of a learner, as its ranks receive them."""

    family: type[PreTrainedModel]
    config: Any
    tokenizer: PreTrainedTokenizerBase
    hooks_routing: bool

    weights: InitialWeights
    """Initial weights, which can be read until every rank has taken its shard."""

    settings: LearnerSettings
    replay: RoutingReplay
    seed: int
    device_type: DeviceType
    threads: int

    @property
    def master_dtype(self) -> torch.dtype:
        """Dtype of the weights before they are given to a pass."""
        settings = self.settings
        return torch.float32 if settings.lora is None else getattr(torch, settings.dtype)

    @property
    def pass_dtype(self) -> torch.dtype | None:
        """Dtype of the forward pass, if it is not that of the weights."""
        dtype: torch.dtype = getattr(torch, self.settings.dtype)
        return None if dtype == self.master_dtype else dtype

    def policy(self) -> Policy:
        """The policy with its initial weights, which are mapped, not copied."""
        with torch.device("meta"):
            shell = model_of(self.family, self.config, self.master_dtype)
        model = model_from_config(shell, self.master_dtype, device=torch.device("cpu"))
        mapped = self.weights.tensors
        with torch.no_grad():
            for name, weight in model.named_parameters():
                weight.data = mapped[name]
            for name, buffer in model.named_buffers():
                if name in mapped:
                    buffer.copy_(mapped[name])
        policy = Policy(
            model,
            self.tokenizer,
            hook_routing=self.hooks_routing,
            logits_memory=self.settings.logits_memory << 20,
        )
        if self.settings.activation_checkpointing:
            policy.enable_activation_checkpointing()
        return policy

    def trained(self, policy: Policy) -> WholeModel | AdaptedModel:
        """What is trained of `policy`. An adapter is put into its model."""
        if self.settings.lora is None:
            return WholeModel(policy)
        return AdaptedModel(policy, self.settings.lora, seed=self.seed)


def initial_weights(policy: Policy, masters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of `policy`, in the precision of `masters` where they have one."""
    state: Mapping[str, Tensor] = policy.model.state_dict()
    return {name: masters.get(name, weight) for name, weight in state.items()}


def initial_layout(weights: Mapping[str, Tensor], settings: LearnerSettings) -> Layout:
    """The layout of `weights` in the dtype of masters, or of the base of an adapter."""
    base = getattr(torch, settings.dtype)
    widened = torch.float32 if settings.lora is None else base
    return {
        name: (shape, widened if dtype in (torch.float32, base) else dtype)
        for name, (shape, dtype) in layout_of(weights).items()
    }
