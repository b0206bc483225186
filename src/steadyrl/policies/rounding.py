"""Rounding of float32 weights to the dtype in which a trainer or a rollout engine computes.

A step of AdamW moves a weight by about the learning rate, while the spacing of bfloat16 numbers is
about 2^-8 of the weight. With rounding to nearest, a weight that starts on the bfloat16 grid, as in
most checkpoints, does not change until its float32 master has moved by half of that spacing. At
learning rate 1e-6 most updates never reach the policy that samples and is differentiated.

Stochastic rounding gives each weight its own threshold, uniform between its two neighbors, and
rounds up if the master is above it. The expected weight is the master, so an update too small for a
single weight still changes a proportional share of many weights. Thresholds only depend on seed and
name. They stay the same for the whole run, so weights only move if their masters do (new thresholds
at each step would add noise of the size of the grid to the policy's staleness), and need not be
saved.
"""

import hashlib
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Rounding = Literal["nearest", "stochastic"]

DROPPED_BITS = 16
"""Bits of the float32 significand that bfloat16 does not have."""


def round_into(
    target: Tensor, masters: Tensor, rounding: Rounding, *, name: str, seed: int
) -> None:
    """Copies `masters` into `target` in place; `rounding` applies to float32 to bfloat16."""
    lowers = masters.dtype == torch.float32 and target.dtype == torch.bfloat16
    if rounding == "stochastic" and lowers:
        masters = round_stochastically(masters, name=name, seed=seed)
    target.copy_(masters)


def round_stochastically(
    masters: Float[Tensor, "..."], *, name: str, seed: int
) -> Float[Tensor, "..."]:
    """Rounds float32 `masters` to bfloat16, with thresholds derived from `seed` and `name`.

    A master at a fraction f of the way from its neighbor of smaller magnitude to its neighbor of
    larger magnitude is rounded to the latter with probability f, so the result is unbiased. Masters
    that bfloat16 represents exactly are unchanged.
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
