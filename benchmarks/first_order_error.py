"""How wrong the first-order approximation is, as a function of what the theory says it depends on.

    python benchmarks/first_order_error.py

Exactly, on a small transformer whose responses can all be enumerated: against response length.
Sampled, on the world of the studies after its cold start: against the engine's numerics, the
staleness in gradient steps, and the routing replay. Writes `results/first_order_error.json` here
and `docs/figures/first_order_error.png`. Twenty minutes on one core.
"""

import argparse
import copy
import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from scipy.stats import t as student
from transformers import Qwen3Config, Qwen3ForCausalLM

from steadyrl.algorithms import Algorithm, Experience
from steadyrl.analysis.first_order.gradient_error import FirstOrderError
from steadyrl.analysis.first_order.probe import (
    Estimator,
    all_responses,
    exact_errors,
    policy_terms,
    sampled_errors,
    token_level,
)
from steadyrl.engines.driver import drive
from steadyrl.engines.protocol import Engine
from steadyrl.lab.running import cold_start
from steadyrl.lab.study import changed
from steadyrl.lab.world import world
from steadyrl.learners.local import LocalLearner
from steadyrl.objectives import (
    CISPO,
    GRPO,
    GSPO,
    Aggregation,
    MiniRL,
    Reinforce,
)
from steadyrl.policies.loading import load_tokenizer
from steadyrl.policies.model_settings import Pretrained, SmallDense
from steadyrl.policies.numerics import Numerics
from steadyrl.policies.policy import Policy
from steadyrl.records.routing import RoutingReplay
from steadyrl.records.token_batch import TokenBatch
from steadyrl.run.assembly import Assembly
from steadyrl.run.config import RunConfig
from steadyrl.run.execution import start_run
from steadyrl.run.manifest import manifest
from steadyrl.training.checkpoint import latest_checkpoint
from steadyrl.training.sampler import sample

RESULTS = Path(__file__).parent / "results" / "first_order_error.json"
FIGURE = Path(__file__).parents[1] / "docs" / "figures" / "first_order_error.png"

ESTIMATORS = {
    "J_token": Estimator(objective=token_level),
    "MiniRL": Estimator(objective=MiniRL()),
    "+ length-norm": Estimator(objective=MiniRL(), aggregation=Aggregation.LENGTH_NORM),
    "- train-infer-IS": Estimator(objective=MiniRL(correct_mismatch=False)),
    "no correction": Estimator(objective=Reinforce()),
    "GRPO": Estimator(objective=GRPO(), aggregation=Aggregation.LENGTH_NORM),
    "CISPO": Estimator(objective=CISPO()),
    "GSPO": Estimator(objective=GSPO(), aggregation=Aggregation.LENGTH_NORM),
}
VOCABULARY = 3
LENGTHS = (1, 2, 3, 4, 5, 6, 7, 8)
EPS = 0.1
DRAWS = 64
"""Of rewards, and of how the engine's weights differ; the same at every length."""

STALENESS = (0, 1, 2, 4, 8)
PROMPTS = 384


def main() -> None:
    """Measures, writes and draws."""
    options = argparse.ArgumentParser()
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--prompts", type=int, default=PROMPTS)
    arguments = options.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        start = cold_started(arguments.seed, Path(folder))
        rows = [
            *by_length(arguments.seed),
            *by_numerics(start, arguments.prompts),
            *by_staleness(start, arguments.prompts),
        ]
    RESULTS.write_text(json.dumps({**manifest(arguments.seed), "rows": rows}, indent=1) + "\n")
    draw(rows)
    print(f"{RESULTS}\n{FIGURE}")


def by_length(seed: int) -> list[dict[str, Any]]:
    """Exact errors for responses of each length: their mean over draws, and its 95% interval."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "head_dim": 8}
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.5,
        pad_token_id=None,
        eos_token_id=None,
        bos_token_id=None,
        **sizes,
    )
    policy = Policy(Qwen3ForCausalLM(config).double(), load_tokenizer(SmallDense()))
    engines = [perturbed(policy) for _ in range(DRAWS)]
    rows = []
    for length in LENGTHS:
        errors = [exact_error(policy, engine, length) for engine in engines]
        rows += [
            {
                "study": "length",
                "x": length,
                "estimator": name,
                **{
                    kind: mean_of([getattr(error[name], kind).value for error in errors])
                    for kind in KINDS
                },
            }
            for name in ESTIMATORS
        ]
        print(rows[-len(ESTIMATORS)], flush=True)
    return rows


def perturbed(policy: Policy) -> Policy:
    """A copy whose weights differ by a tenth of themselves."""
    engine = Policy(copy.deepcopy(policy.model), policy.tokenizer)
    with torch.no_grad():
        for weight in engine.model.parameters():
            weight *= 1 + EPS * torch.randn_like(weight)
    return engine


def exact_error(policy: Policy, engine: Policy, length: int) -> Mapping[str, FirstOrderError]:
    """Errors over all responses of one length, under rewards drawn at random."""
    batch = all_responses(torch.tensor([2, 0]), range(VOCABULARY), length)
    with torch.no_grad():
        scores = engine.score(batch.tokens, batch.attention_mask, batch.loss_mask)
    rewards = torch.randn(len(batch), 1, dtype=torch.float64)
    terms = policy_terms(
        policy,
        replace(
            batch,
            rollout_logprobs=scores.logprobs,
            advantages=(rewards - rewards.mean()) * batch.loss_mask,
        ),
    )
    return exact_errors(terms, list(policy.model.parameters()), ESTIMATORS)


def mean_of(values: Sequence[float]) -> list[float]:
    """The mean, and the ends of Student's 95% interval of it."""
    mean = statistics.fmean(values)
    half = float(student.ppf(0.975, len(values) - 1)) * statistics.stdev(values)
    half /= len(values) ** 0.5
    return [round(value, 6) for value in (mean, mean - half, mean + half)]


def cold_started(seed: int, folder: Path) -> RunConfig:
    """The world of the studies, whose model is its cold start."""
    whole = changed(world(Numerics.FP8), seed=seed)
    start = start_run(cold_start(whole), folder / "cold")
    checkpoint = latest_checkpoint(start)
    assert checkpoint is not None
    leave_one_out = whole.algorithm.model_dump() | {"advantage": "leave_one_out"}
    return changed(
        whole,
        model=Pretrained(path=str(checkpoint)).model_dump(),
        cold_start=None,
        algorithm=leave_one_out,
    )


def by_numerics(start: RunConfig, prompts: int) -> list[dict[str, Any]]:
    """Sampled errors on-policy, for engines of each arithmetic, with and without R3."""
    rows = []
    for numerics in Numerics:
        assembly = assembled(start, numerics=numerics)
        batch = sampled(assembly, start, prompts)
        for replay in (RoutingReplay.NONE, RoutingReplay.R3):
            rows += measured(assembly, batch, replay, study="numerics", x=numerics.value)
            print(rows[-len(ESTIMATORS)], flush=True)
    return rows


def by_staleness(start: RunConfig, prompts: int) -> list[dict[str, Any]]:
    """Sampled errors after each number of gradient steps, FP8, with every replay."""
    assembly = assembled(start, numerics=Numerics.FP8)
    learner, (stage,) = assembly.learner, assembly.stages
    assert isinstance(learner, LocalLearner)
    batch = sampled(assembly, start, prompts)
    batches = {replay: scored(learner, batch, replay) for replay in RoutingReplay}
    course = [
        tuple(scored(learner, rows, RoutingReplay.NONE) for rows in experience.mini_batches[0])
        for experience in (
            experience_of(stage.algorithm, 1_000 + step, assembly.engine)
            for step in range(STALENESS[-1])
        )
    ]
    learner.begin_stage(stage.optimizer.model_copy(update={"warmup_steps": 0}), 1.0, fresh=True)
    rows: list[dict[str, Any]] = []
    taken = 0
    for steps in STALENESS:
        while taken < steps:
            learner.update(stage.algorithm.loss_terms(course[taken]), step=taken, steps=len(course))
            taken += 1
        for replay in RoutingReplay:
            rows += measured(assembly, batches[replay], replay, study="staleness", x=steps)
            print(rows[-len(ESTIMATORS)], flush=True)
    return rows


def scored(learner: LocalLearner, batch: TokenBatch, replay: RoutingReplay) -> TokenBatch:
    """`batch` with what the present weights say under `replay`; the learner is left without."""
    learner.replay = replay
    try:
        return learner.score(batch)
    finally:
        learner.replay = RoutingReplay.NONE


def assembled(start: RunConfig, *, numerics: Numerics) -> Assembly:
    """Learner and engine at the cold start, the engine in `numerics`."""
    engine = start.engine.model_copy(update={"numerics": numerics})
    return Assembly.of(changed(start, engine=engine.model_dump()))


def sampled(assembly: Assembly, start: RunConfig, prompts: int) -> TokenBatch:
    """Responses of the engine to `prompts` prompts, as one batch."""
    larger = start.algorithm.model_copy(update={"prompts": prompts})
    algorithm = Assembly.of(changed(start, algorithm=larger.model_dump())).stages[0].algorithm
    ((batch,),) = experience_of(algorithm, 0, assembly.engine).mini_batches
    return batch


def experience_of(algorithm: Algorithm, step: int, engine: Engine) -> Experience:
    """What `algorithm` learns in a step, from a rollout with the engine's present weights."""
    return algorithm.learn(drive(sample(algorithm, step, engine)))


def measured(
    assembly: Assembly, batch: TokenBatch, replay: RoutingReplay, **where: Any
) -> list[dict[str, Any]]:
    """Errors under `replay`: of the approximation alone, and with the bias of replay."""
    routing = {
        RoutingReplay.NONE: None,
        RoutingReplay.R2: batch.old_routing,
        RoutingReplay.R3: batch.rollout_routing,
    }[replay]
    assert isinstance(assembly.learner, LocalLearner)
    rows = []
    for live_target in (False, True):
        if live_target and routing is None:
            continue
        errors = sampled_errors(
            assembly.learner.policy, batch, ESTIMATORS, replay=routing, live_target=live_target
        )
        target = "live" if live_target else "replayed"
        rows += as_rows(errors, replay=replay.value, target=target, **where)
    return rows


def as_rows(errors: Mapping[str, FirstOrderError], **where: Any) -> list[dict[str, Any]]:
    """One row for each estimator."""
    return [
        {
            **where,
            "estimator": name,
            **{
                kind: [round(getattr(getattr(error, kind), end), 6) for end in ENDS]
                for kind in KINDS
            },
        }
        for name, error in errors.items()
    ]


ENDS = ("value", "low", "high")
KINDS = ("cosine", "norm_ratio", "relative_error")


def draw(rows: list[dict[str, Any]]) -> None:
    """Relative error against length and staleness, cosine against numerics."""
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    panels = figure.subplots(1, 3)
    chosen = ("J_token", "MiniRL", "- train-infer-IS", "no correction", "GRPO")
    for axes, study, kind in zip(
        panels,
        ("length", "numerics", "staleness"),
        ("relative_error", "cosine", "cosine"),
        strict=True,
    ):
        for name in chosen:
            line = [
                row
                for row in rows
                if row["study"] == study
                and row["estimator"] == name
                and row.get("replay", "none") == "none"
                and not (kind == "relative_error" and name == "GRPO")
            ]
            if not line:
                continue
            values = [row[kind] for row in line]
            axes.errorbar(
                [str(row["x"]) for row in line],
                [value for value, *_ in values],
                yerr=[
                    [max(0.0, value - low) for value, low, _ in values],
                    [max(0.0, high - value) for value, _, high in values],
                ],
                marker="o",
                markersize=4,
                capsize=2,
                label=name,
            )
        axes.set_title(f"{kind.replace('_', ' ')} to grad J_seq", loc="left", fontsize=11)
        axes.set_xlabel(
            {
                "length": f"response length (exact, {DRAWS} draws)",
                "numerics": "engine numerics (on-policy)",
                "staleness": "gradient steps since the rollout (FP8)",
            }[study]
        )
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, frameon=False)
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURE, dpi=150)


if __name__ == "__main__":
    main()
