import math

import pytest
import torch

from steadyrl.objectives.quotient import MAX_LOG_QUOTIENT
from steadyrl.objectives.sequences import log_geometric_mean, log_product

# Row 0: quotients 2, 8 and, outside the mask, 100: product 16, geometric mean 4. Row 1 has none.
LOG_QUOTIENTS = torch.tensor([[2.0, 8.0, 100.0], [3.0, 3.0, 3.0]]).log()
LOSS_MASK = torch.tensor([[True, True, False], [False, False, False]])


def test_product_and_geometric_mean_of_a_worked_example() -> None:
    product = log_product(LOG_QUOTIENTS, LOSS_MASK).exp()
    mean = log_geometric_mean(LOG_QUOTIENTS, LOSS_MASK).exp()
    assert product.flatten().tolist() == pytest.approx([16.0, 1.0])
    assert mean.flatten().tolist() == pytest.approx([4.0, 1.0])


def test_garbage_outside_the_loss_mask_is_never_read() -> None:
    garbage = torch.where(LOSS_MASK, LOG_QUOTIENTS, math.nan)
    assert torch.equal(log_product(garbage, LOSS_MASK), log_product(LOG_QUOTIENTS, LOSS_MASK))
    assert log_geometric_mean(garbage, LOSS_MASK).isfinite().all()


def test_product_of_many_tokens_is_bounded_above_and_may_vanish() -> None:
    everything = torch.ones(1, 100, dtype=torch.bool)
    assert log_product(torch.ones(1, 100), everything).item() == MAX_LOG_QUOTIENT
    impossible = torch.tensor([[-math.inf, MAX_LOG_QUOTIENT]])
    assert log_product(impossible, everything[:, :2]).item() == -math.inf
    assert log_geometric_mean(impossible, everything[:, :2]).item() == -math.inf
