"""`steadyrl merge`."""

from pathlib import Path
from typing import Annotated, Literal

import torch
from rich.console import Console
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from steadyrl.base.errors import UserError
from steadyrl.base.settings import Settings
from steadyrl.cli.open_run import check_free, open_checkpoint
from steadyrl.cli.option_names import Positional
from steadyrl.cli.options import read_options
from steadyrl.policies.loading import load_model, load_tokenizer, set_dtype
from steadyrl.policies.lora import CONFIG, base_of, merge_adapter
from steadyrl.policies.older_readers import save_for_all_readers
from steadyrl.records.run_folder import RunFolder
from steadyrl.run.components import load_policy
from steadyrl.run.execution import saved_config


class MergeOptions(Settings):
    """Add a LoRA adapter to the weights of its base model, and save a whole model."""

    adapter: Annotated[Path, Positional()]
    """A run, whose last checkpoint is merged; one of its checkpoints; or another adapter folder."""

    out: Path
    """The folder of the result."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    """Dtype of the saved weights. The sum is computed in float32."""


def merge_command(arguments: list[str], console: Console) -> None:
    """Writes the merged checkpoint."""
    options = read_options(MergeOptions, arguments, program="steadyrl merge")
    check_free(options.out)
    folder, run = open_checkpoint(options.adapter)
    if not (folder / CONFIG).is_file():
        raise UserError(
            f"{folder} has no {CONFIG}: it is not an adapter. Checkpoints of runs without "
            "learner.lora are whole models already."
        )
    base, tokenizer = _base_of_run(run) if run is not None else _base_of_adapter(folder)
    model = merge_adapter(base.float(), folder)
    set_dtype(model, getattr(torch, options.dtype))
    save_for_all_readers(options.out, model, tokenizer)
    console.print(str(options.out), markup=False, soft_wrap=True)


def _base_of_run(run: RunFolder) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The base model as the run's trainer had it."""
    config = saved_config(run)
    learner = config.learner.model_copy(update={"device": "cpu"})
    tokenizer = load_tokenizer(config.model)
    policy, _ = load_policy(config.model_copy(update={"learner": learner}), tokenizer)
    if policy.hook is not None:
        policy.hook.remove()
    return policy.model, tokenizer


def _base_of_adapter(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    settings = base_of(folder)
    tokenizer = load_tokenizer(settings)
    return load_model(settings, tokenizer=tokenizer, seed=0), tokenizer
