import math

import pytest
import torch

from steadyrl.objectives.clipping import above_clip, below_clip

# The bounds are made from the ratios themselves, so that equality is exact in floating point:
# r - 1 and 1 - r lose no digit for r between 1/2 and 2.
HIGH = torch.tensor([0.2])
LOW = torch.tensor([-0.2])


@pytest.mark.parametrize(
    ("nudge", "advantage", "expected"),
    [(0.0, 1.0, False), (1e-12, 1.0, True), (1e-12, -1.0, False), (1e-12, 0.0, False)],
)
def test_upper_bound_stops_good_tokens_strictly_above_it(
    nudge: float, advantage: float, expected: bool
) -> None:
    log_ratio = HIGH.double()
    clip_high = log_ratio.exp().item() - 1
    clipped = above_clip(log_ratio + nudge, torch.tensor([advantage]).double(), clip_high)
    assert clipped.item() is expected


@pytest.mark.parametrize(
    ("nudge", "advantage", "expected"),
    [(0.0, -1.0, False), (-1e-12, -1.0, True), (-1e-12, 1.0, False), (-1e-12, 0.0, False)],
)
def test_lower_bound_stops_bad_tokens_strictly_below_it(
    nudge: float, advantage: float, expected: bool
) -> None:
    log_ratio = LOW.double()
    clip_low = 1 - log_ratio.exp().item()
    clipped = below_clip(log_ratio + nudge, torch.tensor([advantage]).double(), clip_low)
    assert clipped.item() is expected


def test_infinite_bounds_stop_no_token() -> None:
    log_ratio = torch.tensor([-math.inf, -30.0, 30.0])
    assert not above_clip(log_ratio, torch.ones(3), math.inf).any()
    assert not below_clip(log_ratio, -torch.ones(3), math.inf).any()
