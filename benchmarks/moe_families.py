"""What works with which Mixture-of-Experts family of the installed Transformers.

    python benchmarks/moe_families.py                      # every family; about 15 minutes
    python benchmarks/moe_families.py --families mixtral   # some of them; writes nothing
    python benchmarks/moe_families.py --check              # whether the table is of these versions

Every causal family with experts is built small, with random weights, from its own default
configuration, and tried in float32 and bfloat16. The table goes into docs/routing.md, the answers
into benchmarks/results/moe_families.json.
"""

import json
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from moe_family_trials import TRIALS, YES
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging

from steadyrl.base.errors import UserError
from steadyrl.base.settings import Settings
from steadyrl.cli.options import script_options
from steadyrl.policies.routers import is_moe
from steadyrl.policies.small_copy import FAILURES, Architecture
from steadyrl.records.run_folder import write_atomically
from steadyrl.run.manifest import manifest

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "routing.md"
RESULTS = ROOT / "benchmarks" / "results" / "moe_families.json"
BEGIN, END = "<!-- moe_families: begin -->", "<!-- moe_families: end -->"

FIELDS: dict[str, dict[str, Any]] = {
    "deepseek_v2": {"num_experts_per_tok": 2, "n_routed_experts": 8},
    "doge": {"is_moe": True},
    "dots1": {"n_routed_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 1},
    "gemma4_text": {
        "enable_moe_block": True,
        "num_experts": 8,
        "top_k_experts": 2,
        "moe_intermediate_size": 16,
        "hidden_size": 64,
    },
    "granitemoehybrid": {
        "layer_types": ["linear_attention", "full_attention"] * 16,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "mamba_n_heads": 4,
        "mamba_d_head": 32,
    },
    "hunyuan_v1_moe": {"num_experts": 8, "moe_topk": 2, "head_dim": 16},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 16},
    "qwen4_exp": {
        "indexer_n_heads": 4,
        "indexer_kv_heads": 2,
        "indexer_head_dim": 16,
        "indexer_budget": 8,
        "indexer_compress_ratio": 2,
        "ngram_vocab_size_base": 100,
        "split_ngram_parts": 1,
    },
}
"""What default configurations lack that the family cannot be built or routed without."""


class Options(Settings):
    """Try every Mixture-of-Experts family of the installed Transformers."""

    families: tuple[str, ...] = ()
    """Names of model types; all if none is given. With some, nothing is written."""

    check: bool = False
    """Only say whether the table was measured with the installed versions; exit code 1 if not."""


def candidates() -> dict[str, str]:
    """Class of each model type that may have experts, one type for each class."""
    found: dict[str, str] = {}
    for name, family in sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items()):
        fields = [name, *_fields(getattr(transformers, family).config_class)]
        may = any("expert" in field or "moe" in field for field in fields)
        if may and family not in found.values():
            found[name] = family
    return found


def _fields(config_class: Any) -> Iterator[str]:
    """Names in a configuration and its parts, unless these are whole models of their own."""
    yield from vars(config_class)
    yield from getattr(config_class, "__annotations__", {})
    parts = getattr(config_class, "sub_configs", {})
    if "text_config" not in parts:
        for part in parts.values():
            yield from _fields(part)


def small_model(name: str, family: str) -> transformers.PreTrainedModel | None:
    """A small model of a family with experts; None if its default configuration has none.

    Raises:
        ValueError: it cannot be built.
    """
    model_class = getattr(transformers, family)
    try:
        config = model_class.config_class(**FIELDS.get(name, {}))
        with torch.device("meta"):
            large = model_class(config)
    except Exception as error:
        raise ValueError(
            f"cannot be built from its default configuration: {_short(error)}"
        ) from error
    if not is_moe(large):
        return None
    model = Architecture.of(large).small_copy()
    if model is None:
        raise ValueError("cannot be made small enough to be tried")
    return model


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".split("\n")[0][:120]


def measure(name: str, family: str) -> dict[str, str] | None:
    """The answers of every trial for a family; None if it has no experts."""
    try:
        model = small_model(name, family)
    except ValueError as error:
        return {"family": family, **dict.fromkeys(TRIALS, f"not tried: it {error}")}
    if model is None:
        return None
    answers = {"family": family}
    for trial, attempt in TRIALS.items():
        try:
            answers[trial] = attempt(model)
        except UserError as error:
            answers[trial] = f"refused: {error}"
        except FAILURES as error:
            answers[trial] = f"fails: {_short(error)}"
    return answers


def table(rows: Mapping[str, Mapping[str, str]], facts: Mapping[str, Any]) -> str:
    """The measured table, with where it comes from, as it stands in the document."""
    packages = facts["packages"]
    notes: list[str] = []
    versions = " and ".join(f"{name} {packages[name]}" for name in ("transformers", "torch"))
    lines = [
        f"Measured by `python benchmarks/moe_families.py` with {versions} on {facts['machine']}, "
        f"at commit {(facts['commit'] or 'unknown')[:7]}. Numbers lead to the reasons below.",
        "",
        "| family | replay | `local` | `reference` | FP8 | checkpointing | prefixes |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, answers in rows.items():
        cells = [_cell(answers[trial], notes) for trial in TRIALS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines.append("")
    lines += [f"{number}. {note}" for number, note in enumerate(notes, 1)]
    return "\n".join(lines)


def _cell(answer: str, notes: list[str]) -> str:
    """Yes, or a word and the number of the reason, under which equal ones are collected."""
    if answer == YES:
        return YES
    word, _, reason = answer.partition(": ")
    reason = re.sub(r"\b\w+(ForCausalLM|ForConditionalGeneration)\b", "The family", reason)
    reason = reason.removesuffix(" Use the engine 'reference' for it.")
    if reason not in notes:
        notes.append(reason)
    return f"{word} ({notes.index(reason) + 1})"


def with_table(document: str, content: str) -> str:
    """`document` with `content` between the marks."""
    before, _, rest = document.partition(BEGIN)
    return f"{before}{BEGIN}\n{content}\n{END}{rest.partition(END)[2]}"


def check() -> int:
    """1 if the results are of other versions than the installed ones, or not in the document."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    measured, installed = (facts["packages"] for facts in (results, manifest(0)))
    for name in ("torch", "transformers"):
        if measured[name] != installed[name]:
            print(f"Measured with {name} {measured[name]}, installed is {installed[name]}.")
            return 1
    text = DOCUMENT.read_text(encoding="utf-8")
    if with_table(text, table(results["families"], results)) != text:
        print("The table in docs/routing.md is not that of the results.")
        return 1
    unknown = set(candidates()) - set(results["families"]) - set(results["dense"])
    if unknown:
        print(f"Families that were never tried: {', '.join(sorted(unknown))}.")
        return 1
    return 0


def main(options: Options) -> int:
    """Measures and writes, or checks."""
    if options.check:
        return check()
    logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    named = {name: MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[name] for name in options.families}
    chosen = named or candidates()
    rows, dense = {}, []
    for name, family in chosen.items():
        answers = measure(name, family)
        if answers is None:
            dense.append(name)
        else:
            rows[name] = answers
            print(json.dumps({name: answers}), flush=True)
    if not options.families:
        results = {**manifest(0), "families": rows, "dense": dense}
        write_atomically(RESULTS, json.dumps(results, indent=1) + "\n")
        text = DOCUMENT.read_text(encoding="utf-8")
        write_atomically(DOCUMENT, with_table(text, table(rows, results)))
    return 0


if __name__ == "__main__":
    sys.exit(main(script_options(Options)))
