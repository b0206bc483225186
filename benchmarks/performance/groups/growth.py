"""How the time of rollout and update grows: with length, group, experts and vocabulary."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.performance.context import Context
from benchmarks.performance.end_token import set_stop_hazard
from benchmarks.performance.long_tail_world import END, W2, word_tokenizer
from benchmarks.performance.records import Measured, Row, attempt, exact
from benchmarks.performance.timing import timed
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from transformers import Qwen3MoeForCausalLM

from steadyrl.engines.driver import generate_all
from steadyrl.engines.engine_model import EngineModel
from steadyrl.engines.local import LocalEngine
from steadyrl.engines.protocol import Request, Sampling
from steadyrl.learners.local import LocalLearner, LocalLearnerSettings
from steadyrl.learners.loss_term import LossTerm
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.objectives import Aggregation, MiniRL
from steadyrl.policies.numerics import Numerics, WeightScaling
from steadyrl.policies.policy import Policy
from steadyrl.records.routing import RoutingReplay
from steadyrl.records.token_batch import TokenBatch
from steadyrl.report.plots import save

FIGURES = Path(__file__).parents[3] / "docs" / "figures"

PROMPT = 16
NEVER = 1e-12
"""The end token's probability: answers have exactly the length asked for."""

FITTED_POINTS = 4
"""The largest sizes, where what grows outweighs what does not."""

LONG_ENOUGH = 1.0
"""Seconds of repeated runs, the fastest of which counts."""

COLOURS = {"rollout": "#0072b2", "update": "#d55e00"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A small model and how much it writes."""

    length: int = 64
    group: int = 16
    experts: int = 8
    vocabulary: int = 1024


AXES: dict[str, tuple[str, Size, tuple[int, ...]]] = {
    "length": ("response length", Size(group=4), (64, 128, 256, 512, 1024, 2048, 4096)),
    "group": ("group size", Size(), (1, 2, 4, 8, 16, 32, 64, 128)),
    "experts": ("experts, 2 of them for each token", Size(), (4, 8, 16, 32, 64, 128)),
    "vocabulary": ("vocabulary", Size(), (512, 2048, 8192, 32_768, 131_072)),
}


def rows(context: Context) -> Iterator[Row]:
    """The exponent of rollout and update on each axis; draws the figure."""
    curves: dict[str, dict[str, list[float]]] = {}
    for axis, (label, base, values) in AXES.items():
        values = values[:3] if context.quick else values
        points = [seconds_at(replace(base, **{axis: value}), context.device) for value in values]
        curves[axis] = {part: [point[part] for point in points] for part in ("rollout", "update")}
        for part, seconds in curves[axis].items():
            yield attempt(
                f"growth-{axis}-{part}",
                f"{part} time against {label}",
                partial(_exponent, values, seconds),
            )
    draw(curves, context.work if context.quick else FIGURES)


def seconds_at(size: Size, device: torch.device) -> dict[str, float]:
    """Seconds of one rollout and of one update."""
    policy = small_policy(size, device)
    engine = LocalEngine(
        EngineModel(
            policy,
            numerics=Numerics.FLOAT32,
            weight_scaling=WeightScaling.CHANNEL,
            record_routing=False,
        ),
        max_running=size.group,
    )
    prompt = torch.arange(2, 2 + PROMPT)
    sampling = Sampling(max_new_tokens=size.length)
    requests = [Request(prompt_ids=prompt, num_completions=size.group, seed=0, sampling=sampling)]
    learner = LocalLearner(policy, LocalLearnerSettings(), replay=RoutingReplay.NONE)
    learner.begin_stage(OptimizerSettings(), 1.0, fresh=True)
    term = LossTerm(
        batch=_batch(size),
        objective=MiniRL(),
        aggregation=Aggregation.TOKEN_SUM,
    )
    return {
        "rollout": _fastest(lambda: generate_all(engine, requests), device),
        "update": _fastest(lambda: learner.update([term], step=0, steps=1), device),
    }


def small_policy(size: Size, device: torch.device, *, hazard: float = NEVER) -> Policy:
    """Three layers of width 64."""
    config = copy.deepcopy(W2)
    config.update(
        {
            "vocab_size": size.vocabulary,
            "hidden_size": 64,
            "num_hidden_layers": 3,
            "layer_types": None,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "num_experts": size.experts,
            "moe_intermediate_size": 64,
            "max_position_embeddings": 8192,
        }
    )
    torch.manual_seed(0)
    model = Qwen3MoeForCausalLM(config).eval()
    set_stop_hazard(model, END, hazard)
    return Policy(model.to(device), word_tokenizer(100))


def _batch(size: Size) -> TokenBatch:
    tokens = torch.randint(2, size.vocabulary, (size.group, PROMPT + size.length))
    mask = (torch.arange(tokens.shape[1]) >= PROMPT).expand_as(tokens)
    return TokenBatch(
        tokens=tokens,
        attention_mask=torch.ones_like(mask),
        loss_mask=mask,
        group_ids=torch.zeros(size.group, dtype=torch.long),
        response_ids=torch.arange(size.group),
        advantages=mask.float(),
    )


def _fastest(work: Any, device: torch.device) -> float:
    """Seconds of the fastest of the runs that `LONG_ENOUGH` has room for."""

    def run() -> int:
        work()
        return 1

    taken = [timed(run, device).seconds]
    while sum(taken) < LONG_ENOUGH:
        taken.append(timed(run, device).seconds)
    return min(taken)


def power_law(sizes: Sequence[int], seconds: Sequence[float]) -> tuple[float, float]:
    """Exponent and factor: a straight line through the logarithms of the largest sizes."""
    largest, taken = sizes[-FITTED_POINTS:], seconds[-FITTED_POINTS:]
    slope, offset = np.polyfit(np.log(largest), np.log(taken), 1)
    return float(slope), float(np.exp(offset))


def _exponent(sizes: Sequence[int], seconds: Sequence[float]) -> Measured:
    exponent, _ = power_law(sizes, seconds)
    return Measured(
        value=exact(exponent),
        unit=f"exponent, fitted from {sizes[-FITTED_POINTS:][0]} to {sizes[-1]}",
        details={"sizes": list(sizes), "seconds": list(seconds)},
    )


def draw(curves: dict[str, dict[str, list[float]]], folder: Path) -> None:
    """One panel for each axis, both scales logarithmic."""
    figure = Figure(figsize=(10, 6.4), layout="constrained")
    for axes, (axis, curve) in zip(figure.subplots(2, 2).flat, curves.items(), strict=True):
        label, _, values = AXES[axis]
        for part, seconds in curve.items():
            sizes, colour = values[: len(seconds)], COLOURS[part]
            exponent, factor = power_law(sizes, seconds)
            label_of_curve = f"{part}: {exponent:.2f}"
            axes.plot(sizes, seconds, "o", markersize=4, color=colour, label=label_of_curve)
            fitted = np.array(sizes[-FITTED_POINTS:], dtype=float)
            axes.plot(fitted, factor * fitted**exponent, color=colour, linewidth=1.2)
        axes.set_xscale("log", base=2)
        axes.set_xticks(values, [f"{value:,}" for value in values])
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_title(f"seconds against {label}", loc="left", fontsize=11)
        axes.tick_params(labelsize=9, length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.grid(axis="y", color="#d8d8d8", linewidth=0.7)
        axes.legend(title="exponent", fontsize=8, title_fontsize=8, frameon=False)
    for suffix in (".svg", ".png"):
        save(figure, folder / f"performance_growth{suffix}")
