"""Token terms that reach every branch of every objective."""

import torch

from steadyrl.objectives import TokenTerms


def far_apart() -> TokenTerms:
    """Tokens on every side of all bounds."""
    generator = torch.Generator().manual_seed(0)

    def noise() -> torch.Tensor:
        return torch.randn(4, 9, generator=generator, dtype=torch.float64)

    old = -noise().abs() - 1
    return TokenTerms(
        logprobs=old + 0.5 * noise(),
        old_logprobs=old,
        rollout_logprobs=old + noise(),
        advantages=noise(),
        loss_mask=noise() > -0.5,
    )
