"""A whole model from the shards of a distributed checkpoint."""

import warnings
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from steadyrl.base.errors import UserError
from steadyrl.learners.fsdp.checkpoint import METADATA, WEIGHTS, load_shards
from steadyrl.policies import lora
from steadyrl.policies.checkpoint_folder import read_pretrained
from steadyrl.policies.loading import model_from_config


def consolidated_model(folder: Path) -> PreTrainedModel:
    """The model whose shards `FsdpLearner.save` wrote to `folder`, in float32, on the CPU.

    Raises:
        UserError: the folder holds no shards of a whole model, or they are damaged.
    """
    if (folder / lora.CONFIG).is_file():
        raise UserError(
            f"{folder} is an adapter, which is whole already. Add it to its base model with "
            f"'steadyrl merge {folder} --out FOLDER'."
        )
    if not (folder / WEIGHTS / METADATA).is_file():
        raise UserError(
            f"{folder} is not a checkpoint of learner 'fsdp': it has no {WEIGHTS}/{METADATA}. "
            "Checkpoints of learner 'local' are whole models already."
        )
    config = read_pretrained(AutoConfig, str(folder))
    with torch.device("meta"):
        shell = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model = model_from_config(shell, torch.float32, device=torch.device("cpu"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # there is no process group, on purpose
        load_shards(dict(model.named_parameters()), folder / WEIGHTS)
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return model
