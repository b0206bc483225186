"""Logs of other trainers in their own layouts, with made-up values and faults of known kinds.

curves(fault, seed) -> values by our names -> LOGS[name].write -> a file or folder, as they log it
"""

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

STEPS = 30
ONSET = 14
"""Step at which a fault begins to show."""

DIGITS = 9
"""Significant digits of a value, fewer than those in which processors round differently."""

FAULTS = ("none", "discrepancy", "large updates", "stale policy", "no signal", "diverged")

Curves = Mapping[str, Sequence[float]]


def curves(fault: str, seed: int, steps: int = STEPS) -> dict[str, list[float]]:
    """Values of a run by our names, one a step.

    They have the sizes and the noise of runs of some billion parameters; the fault begins after
    `ONSET` steps, and the reward is lost soon after.
    """
    random = np.random.default_rng([seed, FAULTS.index(fault)])
    time = np.arange(steps)
    late = np.clip((time - ONSET) / 4, 0, 1)
    noise = {name: random.normal(size=steps) for name in ("reward", "k3", "stale", "norm", "rest")}
    kept = 1 - 0.95 * np.clip((time - ONSET - 2) / 5, 0, 1)
    values = {
        "reward": np.clip(0.3 + 0.008 * time + 0.02 * noise["reward"], 0, 1),
        "entropy": 0.5 * 0.99**time * np.exp(0.03 * noise["rest"]),
        "mismatch_kl_k3": 8e-4 * np.exp(0.15 * noise["k3"]),
        "staleness_kl_k3": 2e-4 * np.exp(0.2 * noise["stale"]),
        "gradient_norm": 0.3 * np.exp(0.2 * noise["norm"]),
        "truncated_fraction": np.clip(0.05 + 0.01 * noise["rest"], 0, 1),
        "no_signal_fraction": np.clip(0.3 + 0.05 * noise["rest"], 0, 0.8),
        "response_length": 500 + 20 * noise["rest"],
        "learning_rate": np.full(steps, 1e-6),
    }
    if fault != "none":
        values["reward"] = values["reward"] * kept
    if fault == "discrepancy":
        values["mismatch_kl_k3"] = values["mismatch_kl_k3"] * np.exp(4.5 * late)
    elif fault == "large updates":
        values["gradient_norm"] = values["gradient_norm"] * np.exp(4 * late)
    elif fault == "stale policy":
        values["staleness_kl_k3"] = values["staleness_kl_k3"] * np.exp(4 * late)
    elif fault == "no signal":
        zeros = np.zeros(steps)
        values |= {"reward": zeros, "no_signal_fraction": zeros + 1, "gradient_norm": zeros}
    elif fault == "diverged":
        values["gradient_norm"] = np.where(time > ONSET, math.nan, values["gradient_norm"])
    return {name: [_significant(value) for value in series] for name, series in values.items()}


def _significant(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogWriter:
    """How a trainer logs."""

    trainer: str

    names: Mapping[str, str]
    """By our metric, theirs."""

    write: Callable[[Path, list[dict[str, float]]], Path]
    """Writes rows, each with its `step`, into a folder; the path to diagnose."""

    inverse: Mapping[str, Callable[[float], float]] = field(default_factory=dict)
    """By our metric, its value in their units."""

    first_step: int = 1

    def log(self, folder: Path, values: Curves) -> Path:
        """The path of the log of these values in `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        return self.write(folder, self.rows(values))

    def rows(self, values: Curves) -> list[dict[str, float]]:
        """Their rows, one a step."""
        return [
            {"step": place + self.first_step}
            | {
                theirs: self.inverse.get(ours, float)(values[ours][place])
                for ours, theirs in self.names.items()
            }
            for place in range(len(values["reward"]))
        ]


def absolute(k3: float) -> float:
    """The mean absolute log difference of which half the square is `k3`."""
    return math.sqrt(2 * k3)


def _without_step(row: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name != "step"}


def _lines(folder: Path, name: str, lines: Sequence[str]) -> Path:
    path = folder / name
    path.write_text("\n".join(["starting up", *lines, ""]), encoding="utf-8")
    return path


def verl_console(folder: Path, rows: list[dict[str, float]]) -> Path:
    """Lines as verl's LocalLogger prints them, behind Ray's prefix."""
    lines = [
        f"(TaskRunner pid=77) step:{row['step']} - "
        + " - ".join(f"{name}:{value!r}" for name, value in _without_step(row).items())
        for row in rows
    ]
    return _lines(folder, "train.log", lines)


def verl_file(folder: Path, rows: list[dict[str, float]]) -> Path:
    """The file of verl's FileLogger. It writes NaN as null."""
    path = folder / "experiment.jsonl"
    data = [{"step": row["step"], "data": _nulls(_without_step(row))} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in data), encoding="utf-8")
    return path


def _nulls(row: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in row.items()}


def trainer_state(folder: Path, rows: list[dict[str, float]]) -> Path:
    """The state of a Transformers trainer, with an entry of an evaluation."""
    history = [*rows, {"step": rows[-1]["step"], "train_runtime": 12.5}]
    state = {"global_step": rows[-1]["step"], "log_history": history}
    path = folder / "checkpoint-30" / "trainer_state.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(state, indent=2), encoding="utf-8")
    return folder


ROLLOUT = ("rollout/raw_reward",)
PERF = ("rollout/truncated_ratio", "rollout/response_len/mean", "rollout/zero_std/")


def slime_console(folder: Path, rows: list[dict[str, float]]) -> Path:
    """Lines of slime: the rollout's, its performance, and two optimizer steps."""
    lines = []
    for row in rows:
        step, values = int(row["step"]), _without_step(row)
        rollout = {name: value for name, value in values.items() if name in ROLLOUT}
        perf = {name: value for name, value in values.items() if name.startswith(PERF)}
        train = {n: v for n, v in values.items() if n not in rollout and n not in perf}
        stamp = "(MegatronTrainRayActor pid=9) [2026-01-01 00:00:00] model.py:1 -"
        lines += [f"{stamp} perf {step}: {perf}", f"{stamp} rollout {step}: {rollout}"]
        for update in (2 * step, 2 * step + 1):
            lines.append(f"{stamp} step {update}: {train | {'train/step': update}}")
    return _lines(folder, "train.log", lines)


def openrlhf_console(folder: Path, rows: list[dict[str, float]]) -> Path:
    """OpenRLHF's line of a global step."""
    lines = [
        f"(PPOTrainer pid=5) 2026-01-01 INFO ✨ Global step {row['step']}: {_without_step(row)}"
        for row in rows
    ]
    return _lines(folder, "train.log", lines)


def prime_folder(folder: Path, rows: list[dict[str, float]]) -> Path:
    """metrics.jsonl of prime-rl's orchestrator and of its trainer, which writes several rows."""
    for component in ("orchestrator", "trainer"):
        (folder / component).mkdir()
        of_train = component == "trainer"
        with (folder / component / "metrics.jsonl").open("w", encoding="utf-8") as file:
            for row in rows:
                values = _without_step(row)
                own = {n: v for n, v in values.items() if n.startswith("train/") != of_train}
                for name, value in own.items():
                    if not math.isnan(value):  # prime-rl drops them
                        line = {"step": row["step"], "time": 1.0, name: value}
                        file.write(json.dumps(line) + "\n")
    return folder


def prime_console(folder: Path, rows: list[dict[str, float]]) -> Path:
    """Lines of prime-rl's orchestrator and of its trainer, in one file."""
    lines = []
    for row in rows:
        step, of = int(row["step"]), {name: value for name, value in row.items() if name != "LR"}
        lines += [
            "09:00:01    INFO Saving train rollouts",
            f"09:00:02 SUCCESS Step {step} |     12s | Reward {of['Reward']:.4f} | Turns 1.0 | "
            f"Max Off-Policy 1 | Error 0.0% | Truncation {100 * of['Truncation']:.1f}%",
            f"09:00:03 SUCCESS Step {step} |   9.5s | Loss 0.0010 | Entropy {of['Entropy']:.4f} | "
            f"Mismatch KL {of['Mismatch KL']:.4f} | Grad. Norm {of['Grad. Norm']:.4f} | "
            f"LR {row['LR']:.2e} | Throughput 5000 tokens/s | MFU 31.5% | Peak Mem. 60.2 GiB",
        ]
    return _lines(folder, "train.log", lines)


def nemo_console(folder: Path, rows: list[dict[str, float]]) -> Path:
    """What NeMo-RL's GRPO prints of each step."""
    lines = []
    for row in rows:
        lines += ["", f"{'=' * 25} Step {int(row['step'])}/100 {'=' * 25}", "▶ Preparing batch..."]
        lines += ["", "📊 Training Results:", "  • Loss: 0.0010"]
        names = [name for name in row if name != "step"]
        lines += [f"  • {name.partition('/')[2]}: {row[name]:.4f}" for name in names]
        lines += ["", "⏱️  Timing:", "  • Total step time: 12.50s"]
    return _lines(folder, "train.log", lines)


def nemo_dump(folder: Path, rows: list[dict[str, float]]) -> Path:
    """Values by metric and step, as NeMo-RL's tests dump TensorBoard events."""
    names = _without_step(rows[0])
    data = {name: {str(row["step"]): row[name] for row in rows} for name in names}
    path = folder / "metrics.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def wandb_chart(folder: Path, rows: list[dict[str, float]]) -> Path:
    """A CSV file as W&B exports charts."""
    path = folder / "wandb_export.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        names = list(_without_step(rows[0]))
        header = [f"run-1 - {name}{end}" for name in names for end in ("", "__MIN", "__MAX")]
        writer = csv.writer(file)
        writer.writerow(["Step", *header])
        for row in rows:
            writer.writerow([row["step"], *(row[name] for name in names for _ in range(3))])
    return path


_VERL = {
    "reward": "critic/score/mean",
    "entropy": "actor/entropy",
    "mismatch_kl_k3": "rollout_corr/k3_kl",
    "staleness_kl_k3": "actor/ppo_kl",
    "gradient_norm": "actor/grad_norm",
    "truncated_fraction": "response_length/clip_ratio",
    "response_length": "response_length/mean",
    "learning_rate": "actor/lr",
}

_TRL = {
    "reward": "reward",
    "entropy": "entropy",
    "mismatch_kl_k3": "sampling/sampling_logp_difference/mean",
    "gradient_norm": "grad_norm",
    "truncated_fraction": "completions/clipped_ratio",
    "no_signal_fraction": "frac_reward_zero_std",
    "response_length": "completions/mean_length",
    "learning_rate": "learning_rate",
}

_SLIME = {
    "reward": "rollout/raw_reward",
    "entropy": "train/entropy_loss",
    "mismatch_kl_k3": "train/train_rollout_logprob_abs_diff",
    "staleness_kl_k3": "train/ppo_kl",
    "gradient_norm": "train/grad_norm",
    "truncated_fraction": "rollout/truncated_ratio",
    "response_length": "rollout/response_len/mean",
    "learning_rate": "train/lr-pg_0",
}

_MILES = _SLIME | {
    "mismatch_kl_k3": "train/train_rollout_kl",
    "no_signal_fraction": "rollout/zero_std/all_zero_percentage",
}

_OPENRLHF = {
    "reward": "reward",
    "entropy": "entropy_loss",
    "mismatch_kl_k3": "vllm_kl",
    "staleness_kl_k3": "ppo_kl",
    "gradient_norm": "actor_grad_norm",
    "truncated_fraction": "truncated",
    "response_length": "response_length",
    "learning_rate": "actor_lr",
}

_PRIME = {
    "reward": "train/agg/all/agent/reward/mean",
    "no_signal_fraction": "train/agg/all/agent/solved_none",
    "truncated_fraction": "train/agg/all/agent/is_truncated/mean",
    "entropy": "entropy/all/mean",
    "mismatch_kl_k3": "mismatch_kl/all/mean",
    "gradient_norm": "optim/grad_norm",
    "learning_rate": "optim/lr",
}

_NEMO = {
    "reward": "train/reward",
    "entropy": "train/approx_entropy",
    "mismatch_kl_k3": "train/gen_kl_error",
    "gradient_norm": "train/grad_norm",
    "truncated_fraction": "train/truncation_rate",
    "no_signal_fraction": "train/baseline_reward/pct_mixed",
    "response_length": "train/mean_gen_tokens_per_sample",
    "learning_rate": "train/lr",
}

_PRIME_CONSOLE = {
    "reward": "Reward",
    "truncated_fraction": "Truncation",
    "entropy": "Entropy",
    "mismatch_kl_k3": "Mismatch KL",
    "gradient_norm": "Grad. Norm",
    "learning_rate": "LR",
}

_NEMO_CONSOLE = {
    "mismatch_kl_k3": "Training Results/Generation KL Error",
    "reward": "Training Results/Avg Reward",
    "response_length": "Training Results/Mean Generation Length",
}

_ABSOLUTE = {"mismatch_kl_k3": absolute}


def _rounded(digits: int) -> Callable[[float], float]:
    return lambda value: round(value, digits)


_FOUR_DIGITS = {
    **dict.fromkeys((*_PRIME_CONSOLE, *_NEMO_CONSOLE), _rounded(4)),
    "truncated_fraction": _rounded(3),
    "learning_rate": float,
}
"""What consoles print of their metrics."""

LOGS: dict[str, LogWriter] = {
    "verl, console": LogWriter(trainer="verl", names=_VERL, write=verl_console),
    "verl, file logger": LogWriter(trainer="verl", names=_VERL, write=verl_file),
    "verl, W&B chart": LogWriter(trainer="verl", names=_VERL, write=wandb_chart),
    "TRL, trainer_state.json": LogWriter(
        trainer="trl", names=_TRL, write=trainer_state, inverse=_ABSOLUTE
    ),
    "slime, console": LogWriter(
        trainer="slime", names=_SLIME, write=slime_console, inverse=_ABSOLUTE, first_step=0
    ),
    "miles, console": LogWriter(trainer="miles", names=_MILES, write=slime_console, first_step=0),
    "OpenRLHF, console": LogWriter(trainer="openrlhf", names=_OPENRLHF, write=openrlhf_console),
    "prime-rl, metrics.jsonl": LogWriter(trainer="prime-rl", names=_PRIME, write=prime_folder),
    "prime-rl, console": LogWriter(
        trainer="prime-rl", names=_PRIME_CONSOLE, write=prime_console, inverse=_FOUR_DIGITS
    ),
    "NeMo-RL, console": LogWriter(
        trainer="nemo-rl", names=_NEMO_CONSOLE, write=nemo_console, inverse=_FOUR_DIGITS
    ),
    "NeMo-RL, JSON of events": LogWriter(
        trainer="nemo-rl",
        names=_NEMO,
        write=nemo_dump,
        inverse={"no_signal_fraction": lambda share: 100 * (1 - share)},
    ),
}
"""By trainer and layout."""
