"""How often rounding breaks a virtual group: a token that takes slices of several copies.

    steadyrl upcycle models/smollm2 --experts 8 --top-k 2 --split 2 --noise 0.1 --out models/slices
    python benchmarks/virtual_groups.py models/slices --split 2

Counts the choices of every layer on the prose among the general texts, in bfloat16 and in float32.
"""

import json
from importlib.resources import files
from typing import Annotated, Any

import torch

from steadyrl.base.settings import Settings
from steadyrl.cli.option_names import Positional
from steadyrl.cli.options import script_options
from steadyrl.policies.loading import load_model, load_tokenizer
from steadyrl.policies.model_settings import Pretrained


class Options(Settings):
    """Count choices that take slices of several copies."""

    model: Annotated[str, Positional()]
    """A checkpoint that `steadyrl upcycle` made."""

    split: int
    """Slices of each copy."""


def main(options: Options) -> None:
    """Prints the count in each type."""
    torch.set_num_threads(1)
    settings = Pretrained(path=options.model)
    tokenizer = load_tokenizer(settings)
    texts = files("steadyrl.evaluation").joinpath("general_texts.json").read_text("utf-8")
    for dtype in (torch.bfloat16, torch.float32):
        model = load_model(settings, tokenizer=tokenizer, seed=0, dtype=dtype)
        broken: list[torch.Tensor] = []

        def count(_: Any, __: Any, output: Any, broken: list[torch.Tensor] = broken) -> None:
            copies = output[2].div(options.split, rounding_mode="floor").sort(dim=-1).values
            groups = copies.unflatten(-1, (-1, options.split))
            broken.append((groups != groups[..., :1]).any(-1).any(-1))

        for layer in model.model.layers:
            layer.mlp.gate.register_forward_hook(count)
        for text in json.loads(texts)["prose"]:
            with torch.no_grad():
                model(**tokenizer(text, return_tensors="pt"))
        choices = torch.cat(broken)
        print(f"{dtype}: {int(choices.sum())} of {len(choices)} choices")


if __name__ == "__main__":
    main(script_options(Options))
