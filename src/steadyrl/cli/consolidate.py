"""`steadyrl consolidate`."""

from pathlib import Path
from typing import Annotated, Literal

import torch
from rich.console import Console

from steadyrl.base.settings import Settings
from steadyrl.cli.open_run import check_free, open_checkpoint
from steadyrl.cli.option_names import Positional
from steadyrl.cli.options import read_options
from steadyrl.learners.fsdp.consolidation import consolidated_model
from steadyrl.policies.loading import load_tokenizer, set_dtype
from steadyrl.policies.model_settings import Pretrained
from steadyrl.policies.older_readers import save_for_all_readers


class ConsolidateOptions(Settings):
    """Write a checkpoint of learner `fsdp` as one model folder for Transformers."""

    checkpoint: Annotated[Path, Positional()]
    """A run, whose last checkpoint is written; or one of its checkpoints."""

    out: Path
    """The folder of the result."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    """Dtype of the saved weights. The checkpoint holds float32 masters."""


def consolidate_command(arguments: list[str], console: Console) -> None:
    """Writes the model folder."""
    options = read_options(ConsolidateOptions, arguments, program="steadyrl consolidate")
    check_free(options.out)
    folder, _ = open_checkpoint(options.checkpoint)
    model = consolidated_model(folder)
    tokenizer = load_tokenizer(Pretrained(path=str(folder)))
    set_dtype(model, getattr(torch, options.dtype))
    save_for_all_readers(options.out, model, tokenizer)
    console.print(str(options.out), markup=False, soft_wrap=True)
