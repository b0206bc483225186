"""Builders of small token terms, and float64 throughout."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from steadyrl.objectives import TokenTerms

MakeTerms = Callable[..., TokenTerms]


@pytest.fixture(scope="module", autouse=True)
def float64_by_default() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="session")
def make_terms() -> MakeTerms:
    """Terms of one row from lists, or of several; on-policy and all in the loss by default."""

    def make(
        logprobs: list[float] | Tensor,
        *,
        old: list[float] | Tensor | None = None,
        rollout: list[float] | Tensor | None = None,
        advantages: float | list[float] | Tensor = 1.0,
        mask: list[bool] | Tensor | None = None,
    ) -> TokenTerms:
        def table(values: float | list[float] | Tensor) -> Tensor:
            return torch.atleast_2d(torch.as_tensor(values, dtype=torch.float64)).clone()

        current = table(logprobs)
        old_logprobs = table(logprobs if old is None else old)
        return TokenTerms(
            logprobs=current.requires_grad_(),
            old_logprobs=old_logprobs,
            rollout_logprobs=old_logprobs.clone() if rollout is None else table(rollout),
            advantages=table(advantages).expand(current.shape),
            loss_mask=torch.atleast_2d(torch.as_tensor([True] if mask is None else mask)).expand(
                current.shape
            ),
        )

    return make


@pytest.fixture
def scattered_terms(make_terms: MakeTerms) -> TokenTerms:
    """Policies far enough apart that every branch of every objective is taken."""
    generator = torch.Generator().manual_seed(0)

    def noise() -> Tensor:
        return torch.randn(8, 12, generator=generator, dtype=torch.float64)

    old = -noise().abs() - 1
    return make_terms(
        old + 0.4 * noise(),
        old=old,
        rollout=old + 0.9 * noise(),
        advantages=noise(),
        mask=noise() > -0.7,
    )
