"""What recording routes costs a rollout: paired runs with and without, in turn.

    python benchmarks/recording_cost.py --out benchmarks/results/recording_cost.json

The demo's model and prompts; processor time of this one thread, so that a busy machine does not
count. The ratio is taken pair by pair; the two take turns at going first.
"""

import json
import statistics
import time
from pathlib import Path

import torch

from steadyrl.algorithms.policy_gradient import PolicyGradientSettings
from steadyrl.base.settings import Settings
from steadyrl.cli.options import script_options
from steadyrl.engines.driver import generate_all
from steadyrl.engines.engine_model import EngineModel
from steadyrl.engines.local import LocalEngine, LocalEngineSettings
from steadyrl.engines.protocol import Request
from steadyrl.environments.protocol import Split
from steadyrl.policies.loading import load_model, load_tokenizer
from steadyrl.policies.policy import Policy
from steadyrl.policies.tokenizers import encode_prompts
from steadyrl.recipes import RECIPES
from steadyrl.records.run_folder import write_atomically
from steadyrl.run.manifest import manifest


class Options(Settings):
    """Measure the cost of recording routes."""

    pairs: int = 41
    """Paired runs that count."""

    out: Path | None = None
    """Where to write the numbers as JSON."""


def seconds(engine: LocalEngine, requests: list[Request]) -> float:
    """Processor seconds of one rollout."""
    started = time.process_time()
    generate_all(engine, requests)
    return time.process_time() - started


def main(options: Options) -> None:
    """Prints the median ratio with its quartiles."""
    torch.set_num_threads(1)
    config = RECIPES["demo"]()
    algorithm, engine = config.algorithm, config.engine
    assert isinstance(algorithm, PolicyGradientSettings)
    assert isinstance(engine, LocalEngineSettings)
    tokenizer = load_tokenizer(config.model)
    policy = Policy(load_model(config.model, tokenizer=tokenizer, seed=0), tokenizer)
    environment = config.environment.make()
    tasks = [environment.task(Split.TRAIN, n) for n in range(algorithm.prompts)]
    prompts = encode_prompts(tokenizer, [task.prompt for task in tasks])
    size = algorithm.group_size
    requests = [
        Request(prompt_ids=p, num_completions=size, seed=n, sampling=config.sampling)
        for n, p in enumerate(prompts)
    ]
    plain, recording = (
        LocalEngine(
            EngineModel(
                policy,
                numerics=engine.numerics,
                weight_scaling=engine.weight_scaling,
                record_routing=record,
            ),
            max_running=engine.max_running,
        )
        for record in (False, True)
    )
    ratios, plain_seconds = [], []
    for pair in range(-2, options.pairs):  # two pairs warm up
        order = (plain, recording) if pair % 2 else (recording, plain)
        times = {engine: seconds(engine, requests) for engine in order}
        if pair >= 0:
            ratios.append(times[recording] / times[plain])
            plain_seconds.append(times[plain])
    low, median, high = statistics.quantiles(ratios, n=4)
    print(
        f"rollout with routes recorded / without: {median:.3f} "
        f"(quartiles {low:.3f} to {high:.3f}, {options.pairs} pairs, "
        f"{statistics.median(plain_seconds):.3f} s without)"
    )
    if options.out is not None:
        content = {"median_ratio": median, "quartiles": [low, high], "pairs": options.pairs}
        content |= {"seconds_without": statistics.median(plain_seconds), **manifest(0)}
        write_atomically(options.out, json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main(script_options(Options))
