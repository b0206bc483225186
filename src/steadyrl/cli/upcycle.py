"""`steadyrl upcycle`."""

from pathlib import Path
from typing import Annotated, Literal

import torch
from rich.console import Console
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from steadyrl.base.errors import UserError
from steadyrl.cli.open_run import check_free
from steadyrl.cli.option_names import Positional
from steadyrl.cli.options import read_options
from steadyrl.engines.driver import drive
from steadyrl.evaluation.drift import DriftProbe, mean_loglikelihood
from steadyrl.learners.local import LocalLearnerSettings
from steadyrl.learners.passes import Passes
from steadyrl.policies.checkpoint_checks import check_ids
from steadyrl.policies.loading import load_model, load_tokenizer
from steadyrl.policies.model_settings import Pretrained
from steadyrl.policies.older_readers import save_for_all_readers
from steadyrl.policies.policy import Policy
from steadyrl.policies.upcycling import UpcyclingSettings, differences, upcycle

TOLERANCE = {"float32": 1e-2, "bfloat16": 1.0}
"""Largest difference of log-probabilities that rounding may cause at most positions, far below that
of a wrong weight."""


class UpcycleOptions(UpcyclingSettings):
    """Convert a dense checkpoint to a Mixture-of-Experts model that computes the same function."""

    checkpoint: Annotated[str, Positional()]
    """A folder, a GGUF file, or a repository name on the hub: Llama, Mistral, Qwen2 or Qwen3."""

    out: Path
    """The folder of the result."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the saved weights."""

    revision: str | None = None
    """Branch, tag or commit of a repository on the hub."""


def upcycle_command(arguments: list[str], console: Console) -> None:
    """Writes the checkpoint and prints a summary."""
    options = read_options(UpcycleOptions, arguments, program="steadyrl upcycle")
    check_free(options.out)
    source = Pretrained(path=options.checkpoint, revision=options.revision)
    tokenizer = load_tokenizer(source)
    dtype = getattr(torch, options.dtype)
    dense = load_model(source, tokenizer=tokenizer, seed=0, dtype=dtype)
    check_ids(dense, tokenizer)
    moe = upcycle(dense, options)
    if options.noise == 0:
        _check_exact(dense, moe, options.dtype)
    lines = describe(dense, moe, tokenizer)
    save_for_all_readers(options.out, moe, tokenizer)
    console.print("\n".join([*lines, str(options.out)]), markup=False, soft_wrap=True)


def describe(
    dense: PreTrainedModel, moe: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> list[str]:
    """Families, sizes, and what the change did to the log-likelihood of general texts."""
    sizes = [sum(w.numel() for w in model.parameters()) / 1e6 for model in (dense, moe)]
    lines = [
        f"{type(dense).__name__} of {sizes[0]:.0f}M parameters -> {type(moe).__name__} of "
        f"{sizes[1]:.0f}M",
        f"largest difference of a log-probability, median of 64 positions: "
        f"{float(differences(dense, moe).median()):.1e}",
    ]
    probe = DriftProbe.create("auto", tokenizer)
    if probe is not None:
        before, after = (_loglikelihood(probe, model, tokenizer) for model in (dense, moe))
        lines.append(
            f"log-likelihood of general texts, nats per token: {before:.4f} -> {after:.4f}"
        )
    return lines


def _loglikelihood(
    probe: DriftProbe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> float:
    policy = Policy(model, tokenizer, hook_routing=False)
    return mean_loglikelihood(drive(probe.measure(Passes(policy, LocalLearnerSettings()))))


def _check_exact(dense: PreTrainedModel, moe: PreTrainedModel, dtype: str) -> None:
    found = float(differences(dense, moe).median())
    if not found <= TOLERANCE[dtype]:
        raise UserError(
            f"The result computes another function than the checkpoint: log-probabilities differ "
            f"by {found:.1e}. This version of Transformers implements one of the two families "
            "differently; install the version in constraints.txt."
        )
