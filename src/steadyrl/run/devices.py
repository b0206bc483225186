"""The device of a run's learner."""

import torch

from steadyrl.base.errors import UserError
from steadyrl.run.config import RunConfig


def learner_device(config: RunConfig) -> torch.device:
    """The device that `config` chooses for what the learner keeps in this process.

    Raises:
        UserError: CUDA is asked for and missing.
    """
    if config.placement.is_elsewhere(config.learner):
        return torch.device("cpu")
    wanted = config.learner.device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("learner.device is 'cuda', but PyTorch finds none. Use 'auto' or 'cpu'.")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")
