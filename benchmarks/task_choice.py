"""Which tasks of reasoning-gym a model can learn by reinforcement: pass@8 before any training.

    PYTHONHASHSEED=0 python -m benchmarks.task_choice models/smollm2 \
        --out benchmarks/results/task_choice_smollm2.json

A task that is never solved gives no signal, and one that is nearly always solved leaves nothing to
learn. The rule, stated before any training:

1. The scorer cannot be exploited, the dataset makes its tasks quickly, and no single answer is
   right on more than a fifth of them (docs/exploitable_tasks.md).
2. Question and chat template have at most `question_tokens` tokens in the mean, every right answer
   at most `answer_tokens`. This bounds what a step costs.
3. pass@8 lies between `low` and `high`.
4. Of these, the `chosen` with the fewest tokens of question and answer, at most one of each group
   of reasoning-gym (arithmetic, algorithmic, ...).

Each dataset is sampled with its default knobs. Results are written after each, and a second call
goes on where the first was stopped.
"""

import json
import sys
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import torch
import tyro
from transformers import PreTrainedTokenizerBase

from steadyrl.engines.engine_settings import EngineSettings
from steadyrl.engines.protocol import Sampling
from steadyrl.environments.exploitable_datasets import EXPLOITABLE
from steadyrl.environments.protocol import Split
from steadyrl.environments.reasoning_gym_tasks import ReasoningGym, ReasoningGymSettings
from steadyrl.evaluation.accuracy import EvaluationSettings, measure_accuracy
from steadyrl.policies.loading import Pretrained
from steadyrl.policies.tokenizers import encode_prompts
from steadyrl.records.run_folder import write_atomically
from steadyrl.run.assembly import Assembly
from steadyrl.run.config import RunConfig
from steadyrl.run.manifest import manifest

SWEPT = Path(__file__).parent / "results" / "exploitable_tasks.json"
INSTRUCTION = "Answer with the result alone."


@dataclass(frozen=True)
class Options:
    """Measure pass@k of an untrained model on every task of reasoning-gym that may be chosen."""

    model: Annotated[str, tyro.conf.Positional]
    """A checkpoint."""

    out: Path
    """Where results are written as JSON."""

    tasks: int = 24
    """Questions of each dataset."""

    samples: int = 8
    """Answers to each question: the k of pass@k."""

    question_tokens: int = 100
    """Most tokens of question and chat template, in the mean."""

    answer_tokens: int = 12
    """Most tokens of a right answer."""

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
    return ReasoningGymSettings(dataset=name, seed=seed, instruction=INSTRUCTION)


def _config(options: Options, name: str) -> RunConfig:
    return RunConfig(
        seed=options.seed,
        threads=1,
        model=Pretrained(path=options.model),
        environment=_settings(name, options.seed),
        sampling=Sampling(max_new_tokens=options.answer_tokens + 4),
        engine=EngineSettings(),
    )


def _refused(name: str) -> dict[str, Any]:
    """Why a dataset is left out, by what the sweep of its scorer found; empty if it is not."""
    swept = json.loads(SWEPT.read_text())["datasets"][name]
    if name in EXPLOITABLE:
        return {"excluded": "its scorer can be exploited"}
    if swept["note"]:
        return {"excluded": "slow to make or to score"}
    if swept["most_common"] > swept["tasks"] / 5:
        return {"excluded": f"one answer is right on {swept['most_common']} of {swept['tasks']}"}
    return {}


def _row(environment: ReasoningGym, assembly: Assembly, options: Options) -> dict[str, Any]:
    """What is measured of one dataset, or why it is left out."""
    tokenizer = assembly.learner.policy.tokenizer
    row = _size(environment, tokenizer, options)
    if "excluded" in row:
        return row
    return row | _measured(environment, assembly, tokenizer, options)


def _size(
    environment: ReasoningGym, tokenizer: PreTrainedTokenizerBase, options: Options
) -> dict[str, Any]:
    tasks = [environment.task(Split.TEST, n) for n in range(options.tasks)]
    prompts = encode_prompts(tokenizer, [task.prompt for task in tasks])
    answers = [len(tokenizer(str(task.payload["answer"]))["input_ids"]) for task in tasks]
    sizes = {
        "question_tokens": round(fmean(len(p) for p in prompts), 1),
        "answer_tokens": round(fmean(answers), 1),
        "longest_answer": max(answers),
    }
    if sizes["question_tokens"] > options.question_tokens:
        return sizes | {"excluded": "questions are long"}
    if sizes["longest_answer"] > options.answer_tokens:
        return sizes | {"excluded": "answers are long"}
    return sizes


def _measured(
    environment: ReasoningGym,
    assembly: Assembly,
    tokenizer: PreTrainedTokenizerBase,
    options: Options,
) -> dict[str, Any]:
    accuracy = measure_accuracy(
        EvaluationSettings(tasks=options.tasks, samples=options.samples, max_turns=1),
        environment=environment,
        engine=assembly.engine,
        tokenizer=tokenizer,
        sampling=Sampling(max_new_tokens=options.answer_tokens + 4),
        seed=options.seed,
    )
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
    from reasoning_gym.factory import DATASETS

    within = [n for n, row in rows.items() if options.low <= row.get("pass", -1) <= options.high]
    within.sort(key=lambda n: rows[n]["question_tokens"] + rows[n]["answer_tokens"])
    groups: dict[str, str] = {}
    for name in within:
        groups.setdefault(DATASETS[name][0].__module__.split(".")[1], name)
    return list(groups.values())[: options.chosen]


def table(rows: dict[str, dict[str, Any]], options: Options) -> str:
    """The measured datasets in Markdown, the chosen ones in bold."""
    chosen = choose(rows, options)
    lines = [
        f"| dataset | question tokens | answer tokens | avg@{options.samples} | "
        f"pass@{options.samples} |",
        "|---|---|---|---|---|",
    ]
    measured = {name: row for name, row in rows.items() if "pass" in row}
    for name, row in sorted(measured.items(), key=lambda item: -item[1]["pass"]):
        shown = f"**`{name}`**" if name in chosen else f"`{name}`"
        lines.append(
            f"| {shown} | {row['question_tokens']:.0f} | {row['answer_tokens']:.0f} | "
            f"{row['avg']:.3f} | {row['pass']:.3f} |"
        )
    return "\n".join(lines)


def _write(options: Options, rows: dict[str, dict[str, Any]]) -> None:
    stated = asdict(options) | {"model": Path(options.model).name, "out": None}
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
    main(tyro.cli(Options))
