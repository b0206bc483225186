"""AdamW over float32 master weights, whatever type the model computes in."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from steadyrl.base.settings import Settings
from steadyrl.policies.reach import Reach, WeightSample
from steadyrl.policies.rounding import Rounding, round_into

MomentDecay = Annotated[float, Field(ge=0, lt=1)]


class OptimizerSettings(Settings):
    """AdamW, and how its learning rate changes."""

    learning_rate: float = Field(1e-6, gt=0, allow_inf_nan=False)
    """Learning rate after the warm-up."""

    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """After the warm-up: constant, or falling to a tenth by the end of the stage."""

    warmup_steps: int = Field(0, ge=0)
    """Steps in which the learning rate rises linearly from zero."""

    betas: tuple[MomentDecay, MomentDecay] = (0.9, 0.95)
    """Decay rates of the running means of the gradient and of its square."""

    eps: float = Field(1e-8, gt=0, allow_inf_nan=False)
    """Added to the square root in the denominator, for numerical stability."""

    weight_decay: float = Field(0.0, ge=0, allow_inf_nan=False)
    """Decoupled weight decay, as in AdamW."""

    gradient_clip: float = Field(1.0, gt=0)
    """Largest norm of the whole gradient."""


def learning_rate(settings: OptimizerSettings, step: int, steps: int) -> float:
    """The learning rate of step `step` of `steps`."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return settings.learning_rate
    progress = (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps)
    if settings.schedule == "linear":
        share = 1 - progress
    else:
        share = 0.5 * (1 + torch.cos(torch.tensor(torch.pi * progress)).item())
    return settings.learning_rate * (0.1 + 0.9 * share)


class MasterOptimizer:
    """AdamW on float32 masters of the weights.

    A weight in float32 is its own master. Any other has one that takes the gradients summed over
    micro-batches in float32, and is rounded into the model after each step.

    Args:
        parameters: The model's weights by name.
        masters: Weights in the precision that they had before the model was given its type, by
            name. A weight without one begins as its own value.
        rounding: How masters become weights of a lower precision. They do so at once.
        seed: Determines the thresholds of stochastic rounding.
    """

    def __init__(
        self,
        parameters: Iterable[tuple[str, nn.Parameter]],
        *,
        masters: Mapping[str, Tensor] | None = None,
        rounding: Rounding = "nearest",
        seed: int = 0,
    ) -> None:
        precise = masters or {}
        self._weights = {name: weight for name, weight in parameters if weight.requires_grad}
        self.masters = {
            name: _master(weight, precise.get(name)) for name, weight in self._weights.items()
        }
        self._adamw = torch.optim.AdamW(list(self.masters.values()), fused=True)
        self._rounding = rounding
        self._seed = seed
        self._round_masters()

    def zero_gradients(self) -> None:
        """Forgets the gradients."""
        for weight in (*self._weights.values(), *self.masters.values()):
            weight.grad = None

    def set_zero_gradients(self) -> None:
        """Gives every weight a gradient of zero."""
        for master in self.masters.values():
            master.grad = torch.zeros_like(master)

    def gather_gradients(self) -> None:
        """Adds the model's gradients of one micro-batch to those of the masters."""
        for name, weight in self._weights.items():
            master = self.masters[name]
            if master is weight or weight.grad is None:
                continue
            gradient = weight.grad.float()
            master.grad = gradient if master.grad is None else master.grad.add_(gradient)
            weight.grad = None

    def gradients(self) -> dict[str, Tensor]:
        """The gradient of each weight that has one."""
        return {name: w.grad for name, w in self.masters.items() if w.grad is not None}

    def step(self, settings: OptimizerSettings, rate: float) -> Reach:
        """One step of AdamW with learning rate `rate`."""
        group = self._adamw.param_groups[0]
        group.update(
            lr=rate, betas=settings.betas, eps=settings.eps, weight_decay=settings.weight_decay
        )
        before = self._sample()
        self._adamw.step()
        self._round_masters()
        return before.reach(self._sample())

    @torch.no_grad()
    def _round_masters(self) -> None:
        for name, weight in self._weights.items():
            master = self.masters[name]
            if master is not weight:
                round_into(weight, master, self._rounding, name=name, seed=self._seed)

    def _sample(self) -> WeightSample:
        return WeightSample.of(self._weights, self.masters)

    def state(self) -> dict[str, Tensor]:
        """Moments and separate master weights, by name: what a resumed run needs."""
        state = {}
        for name, master in self.masters.items():
            for key, value in self._adamw.state[master].items():
                state[f"{key}/{name}"] = value
            if master is not self._weights[name]:
                state[f"master/{name}"] = master.detach()
        return state

    def load_state(self, state: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
        """Takes over what `state` returned, and rounds the masters into the model.

        Args:
            state: Moments, and masters of weights that had one.
            weights: The saved model's weights in their own precision. They are the masters where
                the state has none, because the model was in float32 then.
        """
        with torch.no_grad():
            for name, master in self.masters.items():
                master.copy_(state.get(f"master/{name}", weights[name]))
        for key_and_name, value in state.items():
            key, _, name = key_and_name.partition("/")
            if key != "master":
                master = self.masters[name]
                self._adamw.state[master][key] = value.to(master.device, copy=True)
        self._round_masters()

    def reset(self) -> None:
        """Forgets the moments: a new stage begins."""
        self._adamw.state.clear()


def _master(weight: nn.Parameter, precise: Tensor | None) -> nn.Parameter:
    if weight.dtype == torch.float32:
        return weight
    values = weight.detach() if precise is None else precise
    return nn.Parameter(values.to(weight.device, torch.float32, copy=True))
