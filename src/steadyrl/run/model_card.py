"""The model card of a run: base model, method, numbers, versions, and what they do not show."""

import shlex
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from steadyrl.analysis import Status, diagnose, has_reinforcement, stages_of
from steadyrl.base.wording import count, duration, inside_sentence
from steadyrl.policies.checkpoint_folder import is_local
from steadyrl.records.intervals import recorded_score
from steadyrl.records.run_folder import RunFolder
from steadyrl.report.run_data import RunData, read_run
from steadyrl.run.base_model import ADAPTER_CONFIG, BaseModel
from steadyrl.run.public_text import public_config, public_text

CONFIG_FILE, METRICS_FILE = "steadyrl/config.yaml", "steadyrl/metrics.jsonl"
FIGURE_FILE = "steadyrl/training.png"
"""Files beside the model in the repository."""

TEMPLATE = "model_card.md.j2"

LOADING = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{repo}")
model = AutoModelForCausalLM.from_pretrained("{repo}")"""

LOADING_ADAPTER = """\
from peft import PeftModel  # pip install peft
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{repo}")
base = AutoModelForCausalLM.from_pretrained("{base}")
model = PeftModel.from_pretrained(base, "{repo}")  # .merge_and_unload() leaves one plain model"""


def model_card(folder: RunFolder, checkpoint: Path, repo: str, base: BaseModel) -> str:
    """The text of the README.md that goes with `checkpoint` into the repository `repo`.

    Raises:
        UserError: the run has no metrics, or one of its files is broken.
    """
    run = read_run(folder)
    rows = rows_until(folder.read_metrics(), checkpoint)
    is_adapter = (checkpoint / ADAPTER_CONFIG).is_file()
    loading = LOADING_ADAPTER if is_adapter else LOADING
    evaluation = run.config["evaluation"]
    first, last = _scored(rows)
    card = ModelCard.from_template(
        _metadata(run.config, base, is_adapter=is_adapter),
        template_str=(files("steadyrl.run") / "templates" / TEMPLATE).read_text(encoding="utf-8"),
        title=repo.partition("/")[2],
        summary=_summary(run, base, is_adapter=is_adapter),
        measure=f", avg@{evaluation['samples']} on {evaluation['tasks']} tasks",
        environment=_environment(run.config),
        before=_score(first),
        after=_score(last),
        numbers=_numbers(rows, run, checkpoint),
        figure=FIGURE_FILE if has_reinforcement(run.stages) else None,
        loading=loading.format(repo=repo, base=base.name),
        base=base.text,
        license_text=base.license or "not known",
        method=_method(run.config),
        origin=_origin(run, folder),
        commands=_commands(run),
        config=public_config(run.config_text),
        config_file=CONFIG_FILE,
        metrics_file=METRICS_FILE,
        limits=_limits(run, rows, base),
    )
    return str(card.content)


def rows_until(rows: Sequence[Mapping[str, Any]], checkpoint: Path) -> list[Mapping[str, Any]]:
    """The metrics of the steps that led to `checkpoint`."""
    stage, _, step = checkpoint.name.rpartition("-")
    order = list(dict.fromkeys(row["stage"] for row in rows))
    last = order.index(stage) if stage in order else len(order)
    return [
        row
        for row in rows
        if order.index(row["stage"]) < last or (row["stage"] == stage and row["step"] <= int(step))
    ]


def _scored(
    rows: Sequence[Mapping[str, Any]],
) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]:
    """The first and the last evaluation of the last stage; None where there was none."""
    scored = [row for row in rows if "score" in row and row["stage"] == rows[-1]["stage"]]
    if not scored:
        return None, None
    return scored[0], scored[-1] if len(scored) > 1 else None


def _score(row: Mapping[str, Any] | None) -> str:
    return "not measured" if row is None else f"{recorded_score(row)} at step {row['step']}"


def _metadata(config: Mapping[str, Any], base: BaseModel, *, is_adapter: bool) -> ModelCardData:
    environment = config["environment"]
    path = environment.get("path") if environment["name"] == "dataset" else None
    on_hub = path is not None and "/" in path and not is_local(path)
    tags = ["steadyrl", "reinforcement-learning", config["algorithm"]["name"]]
    return ModelCardData(
        base_model=base.name,
        license=base.license,
        library_name="peft" if is_adapter else "transformers",
        pipeline_tag="text-generation",
        datasets=[path] if on_hub else None,
        tags=[*tags, "lora"] if is_adapter else tags,
    )


def _summary(run: RunData, base: BaseModel, *, is_adapter: bool) -> str:
    what = "An adapter" if is_adapter else "A model"
    begins = base.text if run.config["model"].get("path") else "random weights"
    return (
        f"{what} trained from {begins} by reinforcement learning on {_environment(run.config)}, "
        "with steadyrl."
    )


def _method(config: Mapping[str, Any]) -> str:
    algorithm = config["algorithm"]
    objective = algorithm.get("objective") or {}
    text = f"`{algorithm['name']}`"
    if objective.get("name"):
        text += f" with the objective `{objective['name']}`"
    return text


def _environment(config: Mapping[str, Any]) -> str:
    environment = config["environment"]
    of = environment.get("dataset") or environment.get("path")
    return f"`{environment['name']}`" + (f" (`{public_text(str(of))}`)" if of else "")


def _numbers(
    rows: Sequence[Mapping[str, Any]], run: RunData, checkpoint: Path
) -> list[tuple[str, str]]:
    """Seed, steps, responses, tokens and time of the steps behind the checkpoint."""
    tokens = sum(
        row.get("rollout_tokens_per_second", 0.0) * row.get("rollout_seconds", 0.0) for row in rows
    )
    seconds = sum(row.get("seconds", 0.0) + row.get("evaluation_seconds", 0.0) for row in rows)
    done = {row["stage"]: row["step"] for row in rows}
    taken = " and ".join(
        f"{done[stage.name]:,} of {inside_sentence(stage.title)}"
        for stage in run.stages
        if done.get(stage.name)
    )
    return [
        ("seed", str(run.config["seed"])),
        ("steps", f"{taken or 'none'} (checkpoint `{checkpoint.name}`)"),
        ("responses sampled", f"{sum(row.get('responses', 0) for row in rows):,}"),
        ("tokens sampled", f"{round(tokens):,}"),
        ("time", duration(seconds)),
    ]


def _origin(run: RunData, folder: RunFolder) -> list[tuple[str, str]]:
    """Versions, commit and machine, as the run recorded them."""
    manifest = run.manifest
    packages = manifest.get("packages", {})
    versions = [f"steadyrl {manifest.get('version', 'unknown')}"]
    versions += [
        f"{name} {packages[name]}" for name in ("torch", "transformers") if name in packages
    ]
    python = f"Python {manifest['python']}" if "python" in manifest else ""
    resumes = folder.read_resumes()
    lines = [
        ("versions", ", ".join(filter(None, [*versions, python]))),
        ("commit of steadyrl", str(manifest.get("commit") or "not known")),
        ("machine", str(manifest.get("machine", "not known"))),
        ("started", str(manifest.get("started", "not known"))),
    ]
    return [*lines, ("resumed", count(len(resumes), "time"))] if resumes else lines


def _commands(run: RunData) -> str:
    words = [public_text(str(word)) for word in run.manifest.get("command", [])]
    repeat = f"steadyrl train {Path(CONFIG_FILE).name}"
    return "\n".join([shlex.join(words), repeat] if words else [repeat])


def _limits(run: RunData, rows: Sequence[Mapping[str, Any]], base: BaseModel) -> list[str]:
    """Limitations of the numbers."""
    evaluation = run.config["evaluation"]
    first, last = _scored(rows)
    limits = [
        f"The score is of {count(evaluation['tasks'], 'held-out task')} of the environment that "
        "gave the rewards, and judged by the same rules. Other tasks were not measured.",
        f"This is one run with seed {run.config['seed']}. Another seed gives other numbers.",
    ]
    if first and last and "score_low" in last and last["score_low"] <= first.get("score_high", 0.0):
        limits.append("The intervals before and after overlap: the gain may be chance.")
    if last and last["step"] != rows[-1]["step"]:
        limits.append(
            f"The last evaluation is of step {last['step']}, the checkpoint of step "
            f"{rows[-1]['step']}."
        )
    if rows[-1]["stage"] != "rl" or rows[-1]["step"] < run.config["steps"]:
        limits.append(f"The run was configured for {count(run.config['steps'], 'step')}.")
    limits.append(_forgetting(rows))
    stages = stages_of(rows)
    if has_reinforcement(stages):
        diagnosis = diagnose(stages, run.settings)
        if diagnosis.status is not Status.HEALTHY:
            limits.append(f"`steadyrl diagnose` calls the run: {diagnosis.heading}.")
    limits.append(
        "The model was not examined for harmful, biased or false answers"
        + (" and has the limits of its base model." if run.config["model"].get("path") else ".")
    )
    return limits


def _forgetting(rows: Sequence[Mapping[str, Any]]) -> str:
    drifts = [row["drift_loglikelihood"] for row in rows if "drift_loglikelihood" in row]
    if not drifts:
        return "What the model forgot outside its tasks was not measured."
    return (
        f"The log-likelihood of a few general texts changed by {drifts[-1]:+.3f} nats per token; "
        "what else the model forgot was not measured."
    )
