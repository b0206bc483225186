"""What runs of a real model learned and forgot: a table, a figure and their numbers.

    python benchmarks/real_runs.py --train runs/smollm2 --seeds [0,1,2]
    python benchmarks/real_runs.py runs/smollm2/* --out benchmarks/results/smollm2_runs.json \
        --figure docs/figures/smollm2.png

The first command trains the recipe `smollm2` on the tasks that `task_choice.py` has chosen, with
and without a penalty on the divergence from the reference, one run after another, and goes on where
it was stopped. The second adds the runs to those that the file has from before.

Held-out scores with their 95% intervals over tasks, before the first step and after the last; the
log-likelihood of the general texts, which nothing trains; and how many of the dozen questions are
answered with another text than before.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import yaml
from matplotlib.figure import Figure

from steadyrl.base.settings import Settings
from steadyrl.cli.option_names import Positional
from steadyrl.cli.options import script_options
from steadyrl.recipes import RECIPES
from steadyrl.records.run_folder import RunFolder, write_atomically
from steadyrl.run.config import RunConfig
from steadyrl.run.execution import resume_run, start_run

CHOICE = Path(__file__).parent / "results" / "task_choice_smollm2.json"
KEPT = ("commit", "machine", "packages")


class Options(Settings):
    """Publish finished runs of a real model."""

    runs: Annotated[tuple[Path, ...], Positional()] = ()
    """Run folders."""

    train: Path | None = None
    """Folder in which the runs are made that are not finished yet."""

    model: Path = Path("models/smollm2")
    """The checkpoint that is trained."""

    seeds: tuple[int, ...] = (0,)
    """Seeds of each task."""

    reference_kl: tuple[float, ...] = (0.0, 0.1)
    """Coefficients of the divergence from the reference."""

    steps: int = 30
    """Steps of each run."""

    out: Path | None = None
    """JSON file of the numbers. Its runs of other names are kept."""

    figure: Path | None = None
    """Where the curves are drawn."""


def main(options: Options) -> None:
    """Prints the table in Markdown and writes what is asked for."""
    runs = [*options.runs, *([] if options.train is None else train(options, options.train))]
    rows = [described(RunFolder(path)) for path in runs]
    if options.out is not None:
        rows = added(options.out, rows)
        write_atomically(options.out, json.dumps({"runs": rows}, indent=1) + "\n")
    if options.figure is not None:
        draw(rows, options.figure)
    print(table(rows))


def added(path: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs of the file `path`, if it exists, and `rows`, which replace runs of equal names."""
    before = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.is_file() else []
    return list({row["run"]: row for row in [*before, *rows]}.values())


def train(options: Options, folder: Path) -> Iterator[Path]:
    """Trains on each chosen task, the first seed of all of them first."""
    found = json.loads(CHOICE.read_text(encoding="utf-8"))
    for seed in options.seeds:
        for coefficient in options.reference_kl:
            for dataset in found["chosen"]:
                knobs = found["datasets"][dataset]["knobs"]
                path = folder / f"{dataset}-{seed}-{coefficient}"
                if RunFolder(path).is_taken:
                    resume_run(path)
                else:
                    start_run(configured(options, dataset, knobs, seed, coefficient), path)
                yield path


def configured(
    options: Options, dataset: str, knobs: dict[str, Any], seed: int, coefficient: float
) -> RunConfig:
    """The recipe on one task."""
    values = RECIPES["smollm2"]().model_dump()
    values["environment"] |= {"dataset": dataset, "knobs": knobs}
    values["algorithm"]["reference_kl"]["coefficient"] = coefficient
    values["model"]["path"] = str(options.model.resolve())
    return RunConfig.model_validate(values | {"seed": seed, "steps": options.steps})


def described(folder: RunFolder) -> dict[str, Any]:
    """The numbers of one run, and answers that changed."""
    config = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
    erl = config.get("erl")
    algorithm = config.get("algorithm") or erl or config["policy_gradient"]
    metrics = [row for row in folder.read_metrics() if row["stage"] == "rl"]
    measured = [row for row in metrics if "score" in row]
    first, last = (_answers(folder, row["step"]) for row in (measured[0], measured[-1]))
    samples = [_samples(folder, row["step"]) for row in (measured[0], measured[-1])]
    manifest = json.loads(folder.manifest.read_text(encoding="utf-8"))
    return {
        "run": folder.path.name,
        "dataset": config["environment"].get("dataset", config["environment"]["name"]),
        "seed": config["seed"],
        "reference_kl": algorithm["reference_kl"]["coefficient"],
        "algorithm": algorithm.get("name", "erl" if erl else "policy_gradient"),
        "steps": metrics[-1]["step"],
        "planned": config["steps"],
        "curve": [[row["step"], round(row["score"], 4)] for row in measured],
        "score": [_interval(row) for row in (measured[0], measured[-1])],
        "reward": [round(row["reward"], 4) for row in metrics if "reward" in row],
        "mismatch_kl_k3": [row.get("mismatch_kl_k3") for row in metrics if row["step"]],
        "drift": [
            [row["step"], round(row["drift_loglikelihood"], 4)]
            for row in measured
            if "drift_loglikelihood" in row
        ],
        "answers": [
            {"question": question, "before": before, "after": last.get(question)}
            for question, before in first.items()
        ],
        "samples": [
            {"prompt": prompt, "before": before, "after": samples[1].get(prompt)}
            for prompt, before in list(samples[0].items())[:8]
        ],
        **{name: manifest[name] for name in KEPT},
    }


def _interval(row: dict[str, Any]) -> dict[str, float]:
    return {
        name: round(row[f"score{end}"], 4)
        for name, end in (("score", ""), ("low", "_low"), ("high", "_high"))
        if f"score{end}" in row
    }


def _read(folder: RunFolder, name: str) -> list[dict[str, Any]]:
    file = folder.path / "completions" / name
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _answers(folder: RunFolder, step: int) -> dict[str, str]:
    """What the policy answers to each general question."""
    rows = _read(folder, f"drift_rl-{step:06d}.jsonl")
    return {row["question"]: row["response"] for row in rows if row["response"]}


def _samples(folder: RunFolder, step: int) -> dict[str, list[Any]]:
    """The first answer to each held-out prompt, and its reward."""
    rows = _read(folder, f"evaluation_rl-{step:06d}.jsonl")
    return {row["prompt"]: [row["response"], row["reward"]] for row in reversed(rows)}


def table(rows: list[dict[str, Any]]) -> str:
    """One line for each run, in Markdown."""
    lines = [
        "| task | seed | reference KL | steps | held-out before | after | general texts, nats a "
        "token | answers changed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        before, after = (
            f"{s['score']:.2f} ({s['low']:.2f} to {s['high']:.2f})" for s in row["score"]
        )
        changed = sum(one["before"] != one["after"] for one in row["answers"])
        drift = f"{row['drift'][-1][1]:+.3f}" if row["drift"] else ""
        lines.append(
            f"| `{row['dataset']}`{' ERL' if row['algorithm'] == 'erl' else ''} | {row['seed']} | "
            f"{row['reference_kl'] or 'none'} | {row['steps']} | {before} | {after} | {drift} | "
            f"{changed} of {len(row['answers'])} |"
        )
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Held-out scores, and what became of the general texts, over steps: a line for each seed."""
    figure = Figure(figsize=(9, 3.7), layout="constrained")
    score, drift = figure.subplots(1, 2)
    tasks = sorted({row["dataset"] for row in rows})
    for row in rows:
        color = f"C{tasks.index(row['dataset'])}"
        style = {"color": color, "linestyle": "--" if row["reference_kl"] else "-", "marker": "o"}
        held = f", reference KL {row['reference_kl']}" if row["reference_kl"] else ""
        erl = " (ERL)" if row["algorithm"] == "erl" else ""
        label = f"{row['dataset']}{erl}{held}"
        known = label in score.get_legend_handles_labels()[1]
        score.plot(
            *zip(*row["curve"], strict=True), label=None if known else label, markersize=3, **style
        )
        if row["drift"]:
            drift.plot(*zip(*row["drift"], strict=True), markersize=3, **style)
    score.set(title="held-out score", xlabel="step", ylim=(0, None))
    drift.set(title="general texts, nats a token", xlabel="step")
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    for axes in (score, drift):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main(script_options(Options))
