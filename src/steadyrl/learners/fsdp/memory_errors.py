"""What a rank says when memory runs out."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch

from steadyrl.base.errors import UserError

Answer = TypeVar("Answer")


def answers_without_memory(answer: Callable[..., Answer]) -> Callable[..., Answer]:
    """A method of a rank, which says in one sentence that memory ran out."""

    @wraps(answer)
    def answering(self: Any, *args: Any) -> Answer:
        try:
            return answer(self, *args)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(
                f"Rank {self.rank} of the learner ran out of memory. Set "
                "learner.activation_checkpointing to true, a lower learner.micro_batch_tokens, or "
                "more learner.ranks, and resume the run."
            ) from error

    return answering


def is_out_of_memory(error: Exception) -> bool:
    """Whether a GPU or the machine has no more memory. On the CPU, PyTorch only says so."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or "DefaultCPUAllocator" in str(error)
