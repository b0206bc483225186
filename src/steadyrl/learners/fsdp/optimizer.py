"""AdamW on the shards of float32 masters."""

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from steadyrl.learners.fsdp.shards import shard_of
from steadyrl.learners.non_finite import non_finite
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.policies.reach import Reach, WeightSample, reach_of

STEP = "step"
MOMENTS = ("exp_avg", "exp_avg_sq")


class ShardedOptimizer:
    """AdamW on sharded float32 weights, which are the masters of what passes compute with.

    Args:
        parameters: Weights by name. Those that do not require a gradient are ignored.
        dtype: Dtype of the forward pass, if it is not float32.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], dtype: torch.dtype | None = None
    ) -> None:
        self.masters = {name: w for name, w in parameters.items() if w.requires_grad}
        self._adamw = torch.optim.AdamW(list(self.masters.values()), fused=True)
        self._dtype = dtype

    def zero_gradients(self) -> None:
        """Clears all gradients."""
        for master in self.masters.values():
            master.grad = None

    def clip_gradients(self, limit: float, step: int) -> float:
        """Scales gradients so that their norm over all ranks is at most `limit`.

        Returns:
            The norm before.

        Raises:
            NonFiniteError: it is not finite. Every rank raises it.
        """
        gradients = {name: w.grad for name, w in self.masters.items() if w.grad is not None}
        if not gradients:  # no row had signal: a gradient of zero, on which momentum still acts
            for master in self.masters.values():
                master.grad = torch.zeros_like(master)
            return 0.0
        norm = torch.nn.utils.get_total_norm(gradients.values())
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        if not bool(torch.isfinite(norm)):
            raise non_finite("the gradient", step)
        masters = [self.masters[name] for name in gradients]
        torch.nn.utils.clip_grads_with_norm_(masters, limit, norm)
        return norm.item()

    def step(self, settings: OptimizerSettings, rate: float) -> Reach:
        """One step of AdamW with learning rate `rate`."""
        group = self._adamw.param_groups[0]
        group.update(
            lr=rate, betas=settings.betas, eps=settings.eps, weight_decay=settings.weight_decay
        )
        before = self._sample()
        self._adamw.step()
        sums = before.sums(self._sample())
        dist.all_reduce(sums)
        return reach_of(sums)

    @torch.no_grad()
    def _sample(self) -> WeightSample:
        shards = {name: shard_of(master) for name, master in self.masters.items()}
        sample = WeightSample.of(shards, shards)
        if self._dtype is None:
            return sample
        return WeightSample(sample.precise.to(self._dtype).float(), sample.precise)

    def state(self) -> dict[str, Tensor]:
        """Moments by name, sharded as their weights."""
        return {
            f"{key}/{name}": value
            for name, master in self.masters.items()
            for key, value in self._adamw.state[master].items()
        }

    def empty_state(self) -> dict[str, Tensor]:
        """Moments to load into, under the names of `state`."""
        state: dict[str, Tensor] = {}
        for name, master in self.masters.items():
            state[f"{STEP}/{name}"] = torch.zeros((), device=master.device)
            state |= {f"{moment}/{name}": torch.zeros_like(master.detach()) for moment in MOMENTS}
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores what `state` returned; empty: there are no moments."""
        self.reset()
        for key_and_name, value in state.items():
            key, _, name = key_and_name.partition("/")
            self._adamw.state[self.masters[name]][key] = value

    def reset(self) -> None:
        """Clears the moments, for a new stage."""
        self._adamw.state.clear()
