"""What rounding of weights costs learning: in the trainer, in the engine, and none.

    python benchmarks/rounding.py demo --out benchmarks/results/rounding_demo.json
    python benchmarks/rounding.py models/smollm2 --out benchmarks/results/rounding_smollm2.json

`demo` is the demo's run. Another name is the folder of a pretrained model (`make real-model` makes
models/smollm2), which is reinforced on sums of two numbers. It is rounded to bfloat16 first, as
most published ones are, so that every variant begins at the same policy. Runs lie in the folder
`--runs` and go on where they were stopped.
"""

import json
from itertools import product
from pathlib import Path
from typing import Annotated

import torch

from steadyrl.algorithms.policy_gradient import PolicyGradientSettings
from steadyrl.base.settings import Settings
from steadyrl.cli.option_names import Positional
from steadyrl.cli.options import script_options
from steadyrl.engines.local import LocalEngineSettings
from steadyrl.engines.protocol import Sampling
from steadyrl.environments.answer_formats import AnswerFormat
from steadyrl.environments.verifiable_math import VerifiableMathSettings
from steadyrl.evaluation.accuracy import EvaluationSettings
from steadyrl.learners.local import LocalLearnerSettings
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.policies.loading import load_model, load_tokenizer
from steadyrl.policies.model_settings import Pretrained
from steadyrl.recipes import RECIPES
from steadyrl.records.run_folder import RunFolder, write_atomically
from steadyrl.run.config import RunConfig
from steadyrl.run.execution import resume_run, start_run
from steadyrl.run.manifest import manifest
from steadyrl.training.journal import JournalSettings

VARIANTS = {
    "trainer bfloat16, nearest": {"learner": {"dtype": "bfloat16", "rounding": "nearest"}},
    "trainer bfloat16, stochastic": {"learner": {"dtype": "bfloat16"}},
    "trainer float32, engine nearest": {"engine": {"rounding": "nearest"}},
    "trainer float32, engine stochastic": {},
    "both float32": {"engine": {"numerics": "float32"}},
}
"""Engines compute in bfloat16 unless another type is named."""

QUESTIONS = ("What is {a} + {b}?", "How much is {a} plus {b}?", "Add {a} and {b}.")


class Options(Settings):
    """Compare roundings of weights."""

    model: Annotated[str, Positional()]
    """demo, or the folder of a pretrained model."""

    out: Path | None = None
    """Where to write the numbers as JSON."""

    runs: Path = Path("runs/rounding")
    """Folder of the runs."""

    variants: tuple[str, ...] = tuple(VARIANTS)
    """Which of the variants to run."""

    seeds: int = 3

    steps: int = 15
    """Steps of a pretrained model's runs."""

    learning_rate: float = 1e-5
    """Learning rate of a pretrained model's runs."""


def main(options: Options) -> None:
    """Runs what is missing and prints a row for each run."""
    torch.set_num_threads(1)
    rows = []
    base = demo if options.model == "demo" else sums
    for seed in range(options.seeds):
        for variant in options.variants:
            changes = VARIANTS[variant]
            name = variant.replace(", ", "-").replace(" ", "-")
            folder = RunFolder(options.runs / f"{Path(options.model).name}-{name}-{seed}")
            settings = {
                "learner": LocalLearnerSettings(**changes.get("learner", {})),
                "engine": LocalEngineSettings(**changes.get("engine", {})),
            }
            config = base(options, seed).model_copy(update=settings)
            if folder.is_taken:
                resume_run(folder.path)
            else:
                start_run(config, folder.path)
            rows.append({"variant": variant, "seed": seed, **outcome(folder)})
            print(json.dumps(rows[-1]), flush=True)
    if options.out is not None:
        content = {
            "options": vars(options)
            | {"model": Path(options.model).name, "out": None, "runs": None},
            "runs": rows,
        }
        content["manifest"] = {k: v for k, v in manifest(0).items() if k != "command"}
        write_atomically(options.out, json.dumps(content, indent=1) + "\n")


def demo(_: Options, seed: int) -> RunConfig:
    """The demo's run."""
    return RECIPES["demo"]().model_copy(update={"seed": seed})


def sums(options: Options, seed: int) -> RunConfig:
    """MiniRL of a pretrained model, rounded to bfloat16, on sums of two numbers."""
    options.runs.mkdir(parents=True, exist_ok=True)
    checkpoint = options.runs / f"{Path(options.model).name}-bfloat16"
    if not checkpoint.is_dir():
        settings = Pretrained(path=str(Path(options.model).resolve()))
        tokenizer = load_tokenizer(settings)
        model = load_model(settings, tokenizer=tokenizer, seed=0, dtype=torch.bfloat16)
        model.save_pretrained(checkpoint)
        tokenizer.save_pretrained(checkpoint)
    problems = options.runs / "problems.jsonl"
    problems.write_text("".join(f"{json.dumps(problem)}\n" for problem in _problems()))
    return RunConfig(
        seed=seed,
        threads=1,
        model=Pretrained(path=str(checkpoint.resolve())),
        environment=VerifiableMathSettings(
            path=problems.resolve(),
            answer_format=AnswerFormat.WHOLE,
            instruction="",
        ),
        algorithm=PolicyGradientSettings(prompts=8, group_size=8),
        steps=options.steps,
        sampling=Sampling(temperature=0.7, max_new_tokens=16),
        optimizer=OptimizerSettings(learning_rate=options.learning_rate),
        evaluation=EvaluationSettings(tasks=48, samples=4),
        evaluate_every=options.steps,
        journal=JournalSettings(checkpoint_every=options.steps),
    )


def _problems() -> list[dict[str, str]]:
    return [
        {"problem": question.format(a=a, b=b), "answer": str(a + b)}
        for question, a, b in product(QUESTIONS, range(1, 21), range(1, 10))
    ]


def outcome(folder: RunFolder) -> dict[str, object]:
    """Scores of the reinforced stage, and how far its updates reached."""
    rows = [row for row in folder.read_metrics() if row["stage"] == "rl"]
    scores = [round(row["score"], 4) for row in rows if "score" in row]
    reached = [row["update_reached_fraction"] for row in rows if "update_reached_fraction" in row]
    engine = [
        row["engine_update_reached_fraction"]
        for row in rows
        if "engine_update_reached_fraction" in row
    ]
    changed = [row["weights_changed_fraction"] for row in rows if "weights_changed_fraction" in row]
    return {
        "first_score": scores[0],
        "last_score": scores[-1],
        "update_reached_fraction": round(sum(reached) / len(reached), 4),
        "engine_update_reached_fraction": round(sum(engine) / len(engine), 4),
        "weights_changed_fraction": round(sum(changed) / len(changed), 4),
        "reward": [round(row["reward"], 4) for row in rows if "reward" in row],
        "staleness_kl_k3": rows[-1].get("staleness_kl_k3"),
    }


if __name__ == "__main__":
    main(script_options(Options))
