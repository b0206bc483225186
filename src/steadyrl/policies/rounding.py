"""Rounding of float32 weights into the type that a trainer or a rollout engine computes in.

A step of AdamW moves a weight by about the learning rate, and neighbors in bfloat16 are 2^-8 of
the weight apart. Rounded to nearest, a weight that begins on the bfloat16 grid, as those of most
checkpoints do, stays where it is until its master has moved by half of that distance: at learning
rate 1e-6 most updates never reach the policy that samples and is differentiated.

Stochastic rounding gives each weight a threshold of its own, uniform between its two neighbors, and
rounds up where the master lies above it. The expected weight is the master, so a movement too small
for any one weight reaches its share of many. Thresholds derive from seed and name alone: they stay
the same for the whole run, so that weights move only where masters do (fresh thresholds at each
step would add noise of the size of the grid to the policy's staleness), and none has to be saved.
"""

import hashlib
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Rounding = Literal["nearest", "stochastic"]

DROPPED_BITS = 16
"""Bits of the significand that float32 has and bfloat16 lacks."""


def round_into(
    target: Tensor, masters: Tensor, rounding: Rounding, *, name: str, seed: int
) -> None:
    """Gives `target`, in place, the values of `masters`; `rounding` is of float32 to bfloat16."""
    lowers = masters.dtype == torch.float32 and target.dtype == torch.bfloat16
    if rounding == "stochastic" and lowers:
        masters = round_stochastically(masters, name=name, seed=seed)
    target.copy_(masters)


def round_stochastically(
    masters: Float[Tensor, "..."], *, name: str, seed: int
) -> Float[Tensor, "..."]:
    """The float32 `masters` in bfloat16, with thresholds that derive from `seed` and `name`.

    A master a share f of the way from its neighbor of smaller magnitude to that of larger magnitude
    goes to the latter with probability f, so that the result is unbiased; masters that bfloat16
    holds stay as they are.
    """
    generator = torch.Generator(masters.device).manual_seed(_seed_of(name, seed))
    bits = torch.randint(
        1 << DROPPED_BITS,
        masters.shape,
        dtype=torch.int32,
        device=masters.device,
        generator=generator,
    )
    bits += masters.contiguous().view(torch.int32)
    bits &= -(1 << DROPPED_BITS)
    return bits.view(torch.float32).to(torch.bfloat16)


def _seed_of(name: str, seed: int) -> int:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
