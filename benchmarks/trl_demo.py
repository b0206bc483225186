"""Steps to 0.85 on the demo's task: `MiniRLTrainer` inside TRL against a run of this package.

    python benchmarks/trl_demo.py --out benchmarks/results/trl_demo.json    # 5 to 10 minutes a seed

The numbers are written after each seed, with the commit and command that measured them. Seeds that
the file has are not run again, so that an interrupted comparison goes on by the same command.

Both begin at one cold start, with the demo's prompts, learning rate and clipping, an engine in
float32, and R3. Each seed has its own order of tasks, the same for both. Held-out accuracy is
measured every 10 steps by the code of `steadyrl train`, and a run ends at the finish. TRL gets
settings of its own only; its schedule, which begins and ends at 0, is not quite ours.
"""

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PrinterCallback, TrainerCallback

from steadyrl.algorithms.policy_gradient import PolicyGradientSettings
from steadyrl.base.settings import Settings
from steadyrl.cli.options import script_options
from steadyrl.engines.driver import drive
from steadyrl.engines.engine_model import EngineModel
from steadyrl.engines.local import LocalEngine, LocalEngineSettings
from steadyrl.environments.protocol import Split, Task
from steadyrl.evaluation.accuracy import measure_accuracy
from steadyrl.integrations.trl import MiniRLConfig, MiniRLTrainer
from steadyrl.objectives import MiniRL
from steadyrl.policies.loading import load_model, load_tokenizer
from steadyrl.policies.model_settings import Pretrained
from steadyrl.policies.numerics import Numerics
from steadyrl.policies.policy import Policy
from steadyrl.recipes import RECIPES
from steadyrl.records.routing import RoutingReplay
from steadyrl.records.run_folder import RunFolder, write_atomically
from steadyrl.records.weight_source import StateDictWeights
from steadyrl.rollout.tasks import check_outcome, shuffled_tasks
from steadyrl.run.config import RunConfig
from steadyrl.run.execution import start_run
from steadyrl.run.manifest import manifest
from steadyrl.training.checkpoint import latest_checkpoint
from steadyrl.training.stage import Stage

ACCURACY = 0.85
EVERY = 10
MICRO_BATCH = 128
"""Sequences in TRL's passes; a step accumulates four of them."""


class Options(Settings):
    """Compare the steps of MiniRLTrainer with those of a run."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the runs. The cold start has seed 0."""

    steps: int = 150
    """Steps of each run, for its schedule. It ends as soon as it is accurate enough."""

    work: Path | None = None
    """Folder that keeps the cold start for later calls; none: a temporary one."""

    out: Path | None = None
    """Where to write the numbers as JSON. Seeds that are in the file are not run again."""


Curve = list[tuple[int, float]]
"""(step, held-out accuracy)"""


def arrival(curve: Curve) -> int | None:
    """The first step at which the accuracy was high enough; None: at none."""
    return next((step for step, accuracy in curve if accuracy >= ACCURACY), None)


def cold_start(folder: Path) -> Path:
    """The demo's model after its cold start, which the folder may hold already."""
    demo = RECIPES["demo"]()
    one_task = demo.evaluation.model_copy(update={"tasks": 1, "samples": 1})
    if latest_checkpoint(RunFolder(folder)) is None:
        start_run(demo.model_copy(update={"steps": 0, "evaluation": one_task}), folder)
    checkpoint = latest_checkpoint(RunFolder(folder))
    assert checkpoint is not None
    return checkpoint


def configured(checkpoint: Path, seed: int, steps: int) -> RunConfig:
    """The demo from its cold start, as TRL can run it: rollouts in float32, R3."""
    return RECIPES["demo"]().model_copy(
        update={
            "seed": seed,
            "steps": steps,
            "model": Pretrained(path=str(checkpoint)),
            "cold_start": None,
            "engine": LocalEngineSettings(numerics=Numerics.FLOAT32),
            "routing_replay": RoutingReplay.R3,
            "evaluate_every": EVERY,
        }
    )


class Arrived(Exception):
    """A run is accurate enough."""


class Finish:
    """Tracker that keeps the curve of a run, and ends it at the finish."""

    def __init__(self) -> None:
        self.curve: Curve = []

    def log(self, _stage: Stage, step: int, metrics: Mapping[str, Any]) -> None:
        """Adds a point where there was an evaluation."""
        if "score" in metrics:
            self.curve.append((step, metrics["score"]))
            if arrival(self.curve) is not None:
                raise Arrived

    def note(self, _stage: Stage, _step: int, _text: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def our_curve(config: RunConfig, folder: Path) -> Curve:
    """A run of this package."""
    finish = Finish()
    with suppress(Arrived):
        start_run(config, folder, [finish])
    return finish.curve


class Evaluation:
    """Held-out accuracy of weights, as a run measures it."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self.tokenizer = load_tokenizer(config.model)
        policy = Policy(load_model(config.model, tokenizer=self.tokenizer, seed=0), self.tokenizer)
        self.environment = config.environment.make()
        settings = config.engine
        assert isinstance(settings, LocalEngineSettings)
        model = EngineModel(
            policy,
            numerics=settings.numerics,
            weight_scaling=settings.weight_scaling,
            record_routing=False,
        )
        self._engine = LocalEngine(model, max_running=settings.max_running)

    def __call__(self, model: PreTrainedModel, step: int) -> float:
        """Accuracy of the weights of `model`."""
        drive(self._engine.sync(StateDictWeights(state=model.state_dict(), version=step + 1)))
        accuracy = drive(
            measure_accuracy(
                self._config.evaluation,
                environment=self.environment,
                engine=self._engine,
                tokenizer=self.tokenizer,
                sampling=self._config.sampling,
                seed=0,
            )
        )
        return accuracy.score


class Race(TrainerCallback):
    """Evaluates TRL's model every 10 steps, and stops it at the finish."""

    def __init__(self, evaluate: Evaluation) -> None:
        self._evaluate = evaluate
        self.curve: Curve = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The accuracy after the cold start."""
        self.curve.append((0, self._evaluate(kwargs["model"], 0)))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The accuracy now."""
        step = state.global_step
        if step % EVERY == 0:
            self.curve.append((step, self._evaluate(kwargs["model"], step)))
            control.should_training_stop = arrival(self.curve) is not None


def trl_settings(config: RunConfig, folder: Path) -> MiniRLConfig:
    """The settings of `config` under TRL's names."""
    algorithm, optimizer = config.algorithm, config.optimizer
    assert isinstance(algorithm, PolicyGradientSettings)
    objective = algorithm.objective
    assert isinstance(objective, MiniRL)
    return MiniRLConfig(
        str(folder),
        routing_replay="r3",
        epsilon=objective.clip_low,
        epsilon_high=objective.clip_high,
        weight_cap=objective.weight_cap,
        num_generations=algorithm.group_size,
        per_device_train_batch_size=MICRO_BATCH,
        gradient_accumulation_steps=algorithm.prompts * algorithm.group_size // MICRO_BATCH,
        max_completion_length=config.sampling.max_new_tokens,
        learning_rate=optimizer.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=optimizer.warmup_steps,
        adam_beta1=optimizer.betas[0],
        adam_beta2=optimizer.betas[1],
        max_grad_norm=optimizer.gradient_clip,
        max_steps=config.steps,
        shuffle_dataset=False,
        seed=config.seed,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        logging_steps=EVERY,
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewards:
    """The environment's rewards; 0 for answers that were cut short, as episodes of a run have."""

    evaluation: Evaluation
    tasks: list[Task]
    __name__ = "environment"

    def __call__(self, completion_ids: list[list[int]], number: list[int], **_: Any) -> list[float]:
        """The reward of each completion."""
        return [self._reward(*pair) for pair in zip(completion_ids, number, strict=True)]

    def _reward(self, token_ids: list[int], number: int) -> float:
        tokenizer = self.evaluation.tokenizer
        if token_ids[-1] != tokenizer.eos_token_id:
            return 0.0
        episode = self.evaluation.environment.start(self.tasks[number])
        text = tokenizer.decode(token_ids[:-1], skip_special_tokens=False)
        return check_outcome(episode.respond(text)).reward


def trl_curve(config: RunConfig, folder: Path) -> tuple[Curve, list[dict[str, Any]]]:
    """A run of MiniRLTrainer: its curve, and its log."""
    evaluation = Evaluation(config)
    algorithm = config.algorithm
    assert isinstance(algorithm, PolicyGradientSettings)
    numbers = range(config.steps * algorithm.prompts)
    tasks = shuffled_tasks(evaluation.environment, Split.TRAIN, numbers, seed=config.seed)
    prompts = [[{"role": m.role, "content": m.content} for m in task.prompt] for task in tasks]
    race = Race(evaluation)
    trainer = MiniRLTrainer(
        load_model(config.model, tokenizer=evaluation.tokenizer, seed=0),
        reward_funcs=Rewards(evaluation=evaluation, tasks=tasks),
        args=trl_settings(config, folder),
        train_dataset=Dataset.from_dict({"prompt": prompts, "number": list(numbers)}),
        processing_class=evaluation.tokenizer,
        callbacks=[race],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return race.curve, trainer.state.log_history


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """The result of `work`, and the seconds it took."""
    started = time.perf_counter()
    return work(), time.perf_counter() - started


def compared(checkpoint: Path, folder: Path, seed: int, steps: int) -> dict[str, Any]:
    """Both runs of one seed, with the commit and time at which they began."""
    began = manifest(seed)
    config = configured(checkpoint, seed, steps)
    ours, our_seconds = timed(lambda: our_curve(config, folder / f"ours-{seed}"))
    (trl, log), trl_seconds = timed(lambda: trl_curve(config, folder / f"trl-{seed}"))
    names = ("routing_disagreement", "mismatch_kl_k3", "clip_fraction_high", "grad_norm")
    last = [row for row in log if "reward" in row][-1]
    return {
        "ours": {"steps": arrival(ours), "seconds": our_seconds, "curve": ours},
        "trl": {"steps": arrival(trl), "seconds": trl_seconds, "curve": trl},
        "trl_metrics_at_the_end": {name: last[name] for name in names},
        "schedule": steps,
        "trl_version": version("trl"),
        **began,
    }


def measured(out: Path | None) -> list[dict[str, Any]]:
    """The rows of seeds that an earlier call has written."""
    if out is None or not out.exists():
        return []
    rows: list[dict[str, Any]] = json.loads(out.read_text(encoding="utf-8"))["rows"]
    return rows


def main(options: Options) -> None:
    """Prints the steps of each seed, and writes them with the curves."""
    torch.set_num_threads(1)
    rows = measured(options.out)
    missing = [seed for seed in options.seeds if seed not in {row["seed"] for row in rows}]
    with tempfile.TemporaryDirectory() as passing:
        folder = Path(passing)
        checkpoint = cold_start((options.work or folder) / "cold-start")
        for seed in missing:
            rows.append(compared(checkpoint, folder, seed, options.steps))
            if options.out is not None:
                content = {"accuracy": ACCURACY, "rows": rows}
                write_atomically(options.out, json.dumps(content, indent=1) + "\n")
    for row in rows:
        ours, trl = row["ours"]["steps"], row["trl"]["steps"]
        print(f"seed {row['seed']}: {ours} steps of ours, {trl} of TRL to {ACCURACY}")


if __name__ == "__main__":
    main(script_options(Options))
