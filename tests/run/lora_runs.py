"""A run that trains an adapter on a checkpoint, and its trainer's model."""

from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from steadyrl.learners.local import LocalLearner, LocalLearnerSettings
from steadyrl.policies.lora import LoraSettings
from steadyrl.policies.model_settings import Pretrained
from steadyrl.records.routing import RoutingReplay
from steadyrl.records.run_folder import RunFolder
from steadyrl.run.assembly import Assembly
from steadyrl.run.execution import saved_config, start_run
from steadyrl.training.checkpoint import load_checkpoint
from tests.run.checkpoints import write_checkpoint
from tests.run.tiny import tiny_run

LORA = LocalLearnerSettings(lora=LoraSettings(rank=4))
LAST = Path("checkpoints") / "rl-000006"
TOKENS = torch.arange(6, 26).view(2, 10)


def write_run(folder: Path) -> tuple[Path, Path]:
    """The folder of a finished run, and the checkpoint that it began with."""
    base = write_checkpoint(folder / "base")
    config = tiny_run(
        model=Pretrained(path=str(base)), learner=LORA, routing_replay=RoutingReplay.NONE
    )
    start_run(config, folder / "run")
    return folder / "run", base


def trainer_of(path: Path) -> PreTrainedModel:
    """The model as the trainer of the run in `path` had it at the end."""
    assembly = Assembly.of(saved_config(RunFolder(path)))
    load_checkpoint(path / LAST, assembly.learner)
    assert isinstance(assembly.learner, LocalLearner)
    return assembly.learner.policy.model


def logits_of(model: PreTrainedModel) -> Tensor:
    """Logits of some tokens."""
    with torch.no_grad():
        return model(input_ids=TOKENS, use_cache=False).logits
