"""A completion: one output of a rollout engine."""

from dataclasses import dataclass, replace
from enum import StrEnum

import torch
from jaxtyping import Float, Int
from torch import Tensor

from steadyrl.records.candidates import Candidates
from steadyrl.records.routing import Routing
from steadyrl.records.support import Support


class FinishReason(StrEnum):
    """Why an engine stopped generating."""

    STOP = "stop"
    """The model generated an end token, which is part of the completion and carries loss."""

    LENGTH = "length"
    """The completion reached its maximum number of tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """`R` tokens that an engine sampled after a prompt of `P` tokens. Tensors are on the CPU.

    Example:
        Completion(prompt_ids=torch.tensor([1, 5]), token_ids=torch.tensor([7, 2]),
                   logprobs=torch.tensor([-0.1, -0.5]), finish_reason=FinishReason.STOP,
                   policy_version=0)
    """

    prompt_ids: Int[Tensor, " P"]

    token_ids: Int[Tensor, " R"]
    """Sampled tokens, including the end token if there is one."""

    logprobs: Float[Tensor, " R"]
    """Log-probability of each token under the distribution that it was sampled from, with
    temperature, top-p and top-k applied."""

    finish_reason: FinishReason

    policy_version: int
    """Version of the weights that sampled the tokens, or the last of them."""

    versions: Int[Tensor, " R"] | None = None
    """Version of the weights that sampled each token; None: `policy_version` sampled all."""

    routing: Routing | None = None
    """Expert choices at the `S = P + R - 1` input tokens, as a batch of one; None: not recorded. A
    turn that continues an earlier turn may omit the tokens that were already fed in that turn."""

    support: Support | None = None
    """Tokens that could be drawn in place of each; None: the whole vocabulary."""

    candidates: Candidates | None = None
    """The engine's most probable tokens in place of each; None: not recorded."""

    @property
    def token_versions(self) -> Int[Tensor, " R"]:
        """Version of the weights that sampled each token."""
        if self.versions is not None:
            return self.versions
        return torch.full((len(self.token_ids),), self.policy_version)

    def first(self, tokens: int) -> "Completion":
        """The completion up to its first `tokens` tokens, with all of its routing."""
        return replace(
            self,
            token_ids=self.token_ids[:tokens],
            logprobs=self.logprobs[:tokens],
            versions=None if self.versions is None else self.versions[:tokens],
            support=None if self.support is None else self.support.first(tokens),
            candidates=None if self.candidates is None else self.candidates.first(tokens),
        )
