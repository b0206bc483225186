"""Which tasks of reasoning-gym a model can learn by reinforcement: pass@8 before any training.

    PYTHONHASHSEED=0 python benchmarks/task_choice.py models/smollm2 \
        --out benchmarks/results/task_choice_smollm2.json

A task that is never solved gives no signal, and one that is nearly always solved leaves nothing to
learn. The rule, stated before any training:

1. The scorer cannot be exploited, and the dataset makes its tasks quickly
   (docs/exploitable_tasks.md).
2. Every right answer is a number, and no number is right on more than a fifth of the tasks.
3. Question and chat template have at most `question_tokens` tokens in the mean. This bounds what a
   step costs.
4. pass@8 lies between `low` and `high`.
5. Of these, the `chosen` ones with the shortest questions.

Each dataset is sampled at the first level of its own curriculum. Results are written after each,
and a second call goes on where the first was stopped.
"""

import json
import sys
from collections import Counter
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import torch
from transformers import PreTrainedTokenizerBase

from steadyrl.base.settings import Settings
from steadyrl.cli.option_names import Positional
from steadyrl.cli.options import script_options
from steadyrl.engines.driver import drive
from steadyrl.engines.protocol import Sampling
from steadyrl.environments.answer_formats import AnswerFormat, extract_answer
from steadyrl.environments.exploitable_datasets import EXPLOITABLE
from steadyrl.environments.protocol import Split
from steadyrl.environments.reasoning_gym_tasks import ReasoningGym, ReasoningGymSettings
from steadyrl.evaluation.accuracy import EvaluationSettings, measure_accuracy
from steadyrl.policies.model_settings import Pretrained
from steadyrl.policies.tokenizers import encode_prompts
from steadyrl.records.run_folder import write_atomically
from steadyrl.run.assembly import Assembly
from steadyrl.run.config import RunConfig
from steadyrl.run.manifest import manifest

SWEPT = Path(__file__).parent / "results" / "exploitable_tasks.json"
INSTRUCTION = "Reply with just the answer and nothing else."


class Options(Settings):
    """Measure pass@k of an untrained model on every task of reasoning-gym that may be chosen."""

    model: Annotated[str, Positional()]
    """A checkpoint."""

    out: Path
    """Where results are written as JSON."""

    tasks: int = 24
    """Questions of each dataset."""

    samples: int = 8
    """Answers to each question: the k of pass@k."""

    question_tokens: int = 100
    """Most tokens of question and chat template, in the mean."""

    max_new_tokens: int = 24
    """Most tokens of a response."""

    temperature: float = 0.7
    """Sampling temperature."""

    low: float = 0.1
    """Least pass@k of a task that may be chosen."""

    high: float = 0.7
    """Largest pass@k of a task that may be chosen."""

    chosen: int = 3
    """Tasks that are chosen."""

    seed: int = 0
    """Seed of the questions and of the sampling."""


def main(options: Options) -> None:
    """Measures what is not yet measured, and prints the table in Markdown."""
    if sys.flags.hash_randomization:
        sys.exit("Some datasets follow the order of sets. Set PYTHONHASHSEED=0.")
    torch.set_num_threads(1)
    rows = json.loads(options.out.read_text())["datasets"] if options.out.is_file() else {}
    assembly = None
    for name in sorted(json.loads(SWEPT.read_text())["datasets"]):
        if name in rows:
            continue
        row = _refused(name)
        if not row:
            assembly = assembly or Assembly.of(_config(options, name))
            with closing(ReasoningGym(_settings(name, options.seed))) as environment:
                row = _row(environment, assembly, options)
        rows[name] = row
        print(name, row, flush=True)
        _write(options, rows)
    print(table(rows, options))


def _settings(name: str, seed: int) -> ReasoningGymSettings:
    """The dataset `name` at the first level of its curriculum."""
    from reasoning_gym.factory import DATASETS, create_curriculum

    first, plain = create_curriculum(name).generate_configuration(), DATASETS[name][1]()
    values = {field.name: getattr(first, field.name) for field in fields(first)}
    knobs = {k: v for k, v in values.items() if k != "size" and v != getattr(plain, k)}
    return ReasoningGymSettings(
        dataset=name,
        knobs=knobs,
        seed=seed,
        answer_format=AnswerFormat.NUMBER,
        instruction=INSTRUCTION,
    )


def _sampling(options: Options) -> Sampling:
    return Sampling(temperature=options.temperature, max_new_tokens=options.max_new_tokens)


def _config(options: Options, name: str) -> RunConfig:
    return RunConfig(
        seed=options.seed,
        threads=1,
        model=Pretrained(path=options.model),
        environment=_settings(name, options.seed),
        sampling=_sampling(options),
    )


def _refused(name: str) -> dict[str, Any]:
    """Why a dataset is left out, by what the sweep of its scorer found; empty if it is not."""
    from reasoning_gym.factory import CURRICULA

    swept = json.loads(SWEPT.read_text())["datasets"][name]
    if name in EXPLOITABLE:
        return {"excluded": "its scorer can be exploited"}
    if swept["note"]:
        return {"excluded": "slow to make or to score"}
    if name not in CURRICULA:
        return {"excluded": "it has no curriculum"}
    return {}


def _row(environment: ReasoningGym, assembly: Assembly, options: Options) -> dict[str, Any]:
    """What is measured of one dataset, or why it is left out."""
    tokenizer = assembly.tokenizer
    row = _size(environment, tokenizer, options)
    if "excluded" in row:
        return row
    return row | _measured(environment, assembly, tokenizer, options)


def _size(
    environment: ReasoningGym, tokenizer: PreTrainedTokenizerBase, options: Options
) -> dict[str, Any]:
    tasks = [environment.task(Split.TRAIN, n) for n in range(60)]
    prompts = encode_prompts(tokenizer, [task.prompt for task in tasks])
    answers = [str(task.payload["answer"]) for task in tasks]
    common = Counter(answers).most_common(1)[0][1]
    sizes = {
        "knobs": environment.settings.knobs,
        "question_tokens": round(fmean(len(p) for p in prompts), 1),
        "most_common": round(common / len(tasks), 3),
    }
    if any(extract_answer(answer, AnswerFormat.NUMBER) != answer for answer in answers):
        return sizes | {"excluded": "not every answer is a number"}
    if common > len(tasks) / 5:
        return sizes | {"excluded": f"one answer is right on {common} of {len(tasks)}"}
    if sizes["question_tokens"] > options.question_tokens:
        return sizes | {"excluded": "questions are long"}
    return sizes


def _measured(
    environment: ReasoningGym,
    assembly: Assembly,
    tokenizer: PreTrainedTokenizerBase,
    options: Options,
) -> dict[str, Any]:
    measurement = measure_accuracy(
        EvaluationSettings(tasks=options.tasks, samples=options.samples, max_turns=1),
        environment=environment,
        engine=assembly.engine,
        tokenizer=tokenizer,
        sampling=_sampling(options),
        seed=options.seed,
    )
    accuracy = drive(measurement)
    chance = accuracy.pass_at(options.samples)
    assert chance is not None
    cut = [t.truncated for group in accuracy.groups for t in group.trajectories]
    return {
        "avg": round(accuracy.score, 4),
        "pass": round(chance, 4),
        "truncated": round(fmean(cut), 3),
    }


def choose(rows: dict[str, dict[str, Any]], options: Options) -> list[str]:
    """The datasets that the rule chooses."""
    within = [n for n, row in rows.items() if options.low <= row.get("pass", -1) <= options.high]
    return sorted(within, key=lambda name: rows[name]["question_tokens"])[: options.chosen]


def table(rows: dict[str, dict[str, Any]], options: Options) -> str:
    """The measured datasets in Markdown, the chosen ones in bold."""
    chosen = choose(rows, options)
    lines = [
        f"| dataset | question tokens | most common answer | avg@{options.samples} | "
        f"pass@{options.samples} |",
        "|---|---|---|---|---|",
    ]
    measured = {name: row for name, row in rows.items() if "pass" in row}
    for name, row in sorted(measured.items(), key=lambda item: -item[1]["pass"]):
        shown = f"**`{name}`**" if name in chosen else f"`{name}`"
        lines.append(
            f"| {shown} | {row['question_tokens']:.0f} | {row['most_common']:.0%} | "
            f"{row['avg']:.3f} | {row['pass']:.3f} |"
        )
    return "\n".join(lines)


def _write(options: Options, rows: dict[str, dict[str, Any]]) -> None:
    stated = options.model_dump(mode="json") | {"model": Path(options.model).name, "out": None}
    made = {k: v for k, v in manifest(options.seed).items() if k != "command"}
    content = {
        "options": stated,
        "instruction": INSTRUCTION,
        "chosen": choose(rows, options),
        "datasets": rows,
        "manifest": made,
    }
    write_atomically(options.out, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main(script_options(Options))
