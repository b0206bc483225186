r"""Seconds that a sync of all weights takes, with the engine idle.

python benchmarks/engine_sync.py --model models/smollm2 --engine vllm
python benchmarks/engine_sync.py --model models/smollm2 --engine vllm \
        --engine.url http://127.0.0.1:8000
"""

import json
import statistics
import time
from pathlib import Path

import torch

from steadyrl.base.settings import Settings
from steadyrl.cli.options import script_options
from steadyrl.engines.driver import drive
from steadyrl.engines.engine_settings import EngineContext
from steadyrl.engines.registry import AnyEngine
from steadyrl.engines.served_model import weights_of
from steadyrl.engines.vllm.settings import VllmSettings
from steadyrl.policies.loading import load_model, load_tokenizer
from steadyrl.policies.model_settings import Pretrained
from steadyrl.policies.policy import Policy
from steadyrl.records.run_folder import write_atomically


class Options(Settings):
    """Measure the syncs of an engine."""

    model: str = "models/smollm2"
    """Checkpoint of the policy."""

    engine: AnyEngine = VllmSettings()

    syncs: int = 5
    """Syncs after a first one, which is not counted."""

    out: Path | None = None
    """Where to write the numbers as JSON."""


def measure(options: Options) -> dict[str, object]:
    """Seconds of each sync, their median, and the size of the weights."""
    settings = Pretrained(path=options.model)
    tokenizer = load_tokenizer(settings)
    policy = Policy(load_model(settings, tokenizer=tokenizer, seed=0), tokenizer)
    engine = options.engine.make(EngineContext(policy=policy, seed=0))
    seconds = []
    try:
        for version in range(options.syncs + 1):
            started = time.perf_counter()
            drive(engine.sync(weights_of(policy, version=version)))
            seconds.append(time.perf_counter() - started)
    finally:
        close = getattr(engine, "close", None)
        if close is not None:
            close()
    return {
        "engine": options.engine.model_dump(mode="json"),
        "parameters": sum(weight.numel() for weight in policy.model.parameters()),
        "seconds": [round(each, 3) for each in seconds[1:]],
        "median": round(statistics.median(seconds[1:]), 3),
        "threads": torch.get_num_threads(),
    }


def main(options: Options) -> None:
    """Prints the numbers and writes them."""
    text = json.dumps(measure(options), indent=2)
    print(text)
    if options.out is not None:
        write_atomically(options.out, text + "\n")


if __name__ == "__main__":
    main(script_options(Options))
