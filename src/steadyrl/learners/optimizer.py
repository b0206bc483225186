"""AdamW on float32 master weights, for a model of any dtype."""

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
    """Settings of AdamW and its learning rate schedule."""

    learning_rate: float = Field(1e-6, gt=0, allow_inf_nan=False)
    """Peak learning rate, reached after the warm-up."""

    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Schedule after the warm-up: constant, or decay to a tenth by the end of the stage."""

    warmup_steps: int = Field(0, ge=0)
    """Number of steps over which the learning rate rises linearly from zero."""

    betas: tuple[MomentDecay, MomentDecay] = (0.9, 0.95)
    """Decay rates of the running averages of the gradient and its square."""

    eps: float = Field(1e-8, gt=0, allow_inf_nan=False)
    """Added to the square root in the denominator, for numerical stability."""

    weight_decay: float = Field(0.0, ge=0, allow_inf_nan=False)
    """Decoupled weight decay, as in AdamW."""

    gradient_clip: float = Field(1.0, gt=0)
    """Maximum norm of the gradient over all weights."""


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

    A float32 weight is its own master. Any other weight has a separate master, which accumulates
    gradients over micro-batches in float32 and is rounded into the model after each step.

    Args:
        parameters: Weights by name. Those that do not require a gradient are ignored.
        masters: Weights by name in their precision before the model was converted to its dtype. A
            master that is not given starts as the value of its weight.
        rounding: Rounding of masters to weights of lower precision, also at construction.
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
        """Clears all gradients."""
        for weight in (*self._weights.values(), *self.masters.values()):
            weight.grad = None

    def set_zero_gradients(self) -> None:
        """Sets the gradient of every weight to zero."""
        for master in self.masters.values():
            master.grad = torch.zeros_like(master)

    def gather_gradients(self) -> None:
        """Adds the model's gradients of one micro-batch to the masters' gradients."""
        for name, weight in self._weights.items():
            master = self.masters[name]
            if master is weight or weight.grad is None:
                continue
            gradient = weight.grad.float()
            master.grad = gradient if master.grad is None else master.grad.add_(gradient)
            weight.grad = None

    def gradients(self) -> dict[str, Tensor]:
        """Gradients by name, of the weights that have one."""
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
        """Moments and separate master weights by name, for a resumed run."""
        state = {}
        for name, master in self.masters.items():
            for key, value in self._adamw.state[master].items():
                state[f"{key}/{name}"] = value
            if master is not self._weights[name]:
                state[f"master/{name}"] = master.detach()
        return state

    def load_state(self, state: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
        """Restores what `state` returned, and rounds the masters into the model.

        Args:
            state: Moments and separate masters.
            weights: Saved weights in their own precision. They are the masters of weights for which
                the state has none, since these were float32.
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
        """Clears the moments, for a new stage."""
        self._adamw.state.clear()


def _master(weight: nn.Parameter, precise: Tensor | None) -> nn.Parameter:
    if weight.dtype == torch.float32:
        return weight
    values = weight.detach() if precise is None else precise
    return nn.Parameter(values.to(weight.device, torch.float32, copy=True))
