"""Training of a LoRA adapter: what is stored and published.

publish      the adapter, for engines that take it; merged into its base, for others
save         an adapter folder that peft loads, with the tokenizer
reference    a second adapter in the same model: no second copy of the base
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from steadyrl.learners.reference import read_reference, write_reference
from steadyrl.policies import lora
from steadyrl.policies.checkpoint_names import to_checkpoint_names
from steadyrl.policies.lora import Adapter, LoraSettings
from steadyrl.policies.merged_weights import ADAPTER, MergedWeights
from steadyrl.policies.policy import Policy
from steadyrl.policies.token_scores import TokenScores
from steadyrl.records.weight_source import AdapterWeights, StateDictWeights, WeightSource

AdapterContent = Literal["own", "zeros", "base"] | float
"""What an adapter is filled with for a check. own: what it had. base: it is left out. A number:
random ones, so that its part of each weight has this share of the weight's norm."""

REFERENCE = "reference"
"""Name, within the model, of the adapter with which a stage began."""


class AdaptedModel:
    """A LoRA adapter, which is put into the policy's model. Has the methods of `WholeModel`.

    Args:
        seed: Determines the first weights of the adapter.

    Raises:
        UserError: peft is not installed, or cannot adapt what the settings ask for.
    """

    def __init__(self, policy: Policy, settings: LoraSettings, *, seed: int) -> None:
        self._policy = policy
        self.adapter = Adapter(policy.model, settings, seed=seed)
        self._own: dict[str, Tensor] | None = None
        """The weights that were there before a check."""

    def parameters(self) -> Mapping[str, nn.Parameter]:
        """Trained weights under the names in `adapter_model.safetensors`."""
        return self.adapter.parameters()

    @torch.no_grad()
    def fill(self, content: AdapterContent, randomize: Callable[..., None] | None = None) -> None:
        """Fills the adapter for a check. The last content must be `own`.

        Args:
            randomize: Draws random numbers with a `share`; None: those of `lora.randomize`.
        """
        weights = self.parameters()
        own = self._own = self._own or {name: w.detach().clone() for name, w in weights.items()}
        self.adapter.use(None if content == "base" else ADAPTER)
        if isinstance(content, float):
            (randomize or partial(lora.randomize, self._policy.model, seed=0))(share=content)
        for name, weight in weights.items():
            if content == "own":
                weight.copy_(own[name])
            elif content == "zeros" and "lora_B" in name:
                weight.zero_()
        if content == "own":
            self._own = None

    def publish(self, version: int) -> WeightSource:
        """The present adapter, without copies."""
        return self._published(ADAPTER, version)

    def save(self, folder: Path) -> None:
        """Writes an adapter folder."""
        folder.mkdir(parents=True, exist_ok=True)
        self.adapter.write(folder)
        self._policy.tokenizer.save_pretrained(folder)

    def load(self, folder: Path) -> Mapping[str, Tensor]:
        """Takes over the adapter in `folder`, and returns its weights.

        Raises:
            ValueError: names or shapes differ from this adapter's.
        """
        return self.adapter.read(folder)

    def save_reference(self, folder: Path) -> None:
        """Writes the present adapter to `folder`, all or nothing."""
        write_reference(folder, self.adapter.parameters())

    def load_reference(self, folder: Path) -> "AdapterReference":
        """The policy with the adapter in `folder`, over the same base."""
        self.adapter.add(REFERENCE)
        read_reference(folder, self.adapter.parameters(REFERENCE))
        return AdapterReference(self._policy, self.adapter)

    def publish_reference(self) -> WeightSource:
        """The adapter that was loaded as reference."""
        return self._published(REFERENCE, 0)

    def _published(self, name: str, version: int) -> WeightSource:
        model = self._policy.model
        return AdapterWeights(
            state={n: weight.detach() for n, weight in self.adapter.parameters(name).items()},
            adapter_config=self.adapter.config,
            version=version,
            merged=StateDictWeights(
                state=MergedWeights(model, name),
                version=version,
                to_checkpoint=partial(to_checkpoint_names, model),
            ),
        )


class AdapterReference:
    """The policy with the reference's adapter in the place of the trained one."""

    def __init__(self, policy: Policy, adapter: Adapter) -> None:
        self._policy = policy
        self._adapter = adapter

    def score(self, *args: Any, **options: Any) -> TokenScores:
        """Scores tokens as `Policy.score` does. Call it without gradient."""
        with self._adapter.using(REFERENCE):
            return self._policy.score(*args, **options)
