"""One answer of a rollout engine."""

from dataclasses import dataclass
from enum import StrEnum

from jaxtyping import Float, Int
from torch import Tensor

from steadyrl.records.routing import Routing


class FinishReason(StrEnum):
    """Why an engine stopped writing."""

    STOP = "stop"
    """The model wrote an end token. It belongs to the completion and carries loss."""

    LENGTH = "length"
    """The token budget was spent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What an engine sampled after a prompt of `P` tokens: `R` tokens, on the CPU.

    Example:
        Completion(prompt_ids=torch.tensor([1, 5]), token_ids=torch.tensor([7, 2]),
                   logprobs=torch.tensor([-0.1, -0.5]), finish_reason=FinishReason.STOP,
                   policy_version=0)
    """

    prompt_ids: Int[Tensor, " P"]

    token_ids: Int[Tensor, " R"]
    """The end token included, when there is one."""

    logprobs: Float[Tensor, " R"]
    """Of each token under the distribution it was sampled from: temperature and top-p applied."""

    finish_reason: FinishReason

    policy_version: int
    """Version of the weights that wrote it."""

    routing: Routing | None = None
    """Of the `S = P + R - 1` tokens that were fed, as a batch of one; None when not recorded. A
    turn that continues an earlier one may leave out what that was fed."""
