"""How well `steadyrl diagnose` names faults that were injected, and how often it cries wolf.

    python benchmarks/injected_faults.py --out benchmarks/results/injected_faults.json

Ten runs with a fault and ten sound ones, each with a seed of its own, go on from one cold start in
the world of the studies. Every run is diagnosed after each of its steps, as by someone who watches:
its first alarm counts, and its cause is named once every later diagnosis gives it.
"""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from faulty_engines import NeverSynced, ShiftedRoutes, SilentTopP, WrappedEngine, at_temperature

from steadyrl.analysis.causes import CauseName
from steadyrl.analysis.diagnosis import Diagnosis, diagnose
from steadyrl.base.errors import NonFiniteError
from steadyrl.base.settings import Settings
from steadyrl.cli.options import script_options
from steadyrl.engines.driver import drive
from steadyrl.engines.protocol import Engine, Sampling
from steadyrl.lab.study import changed
from steadyrl.lab.world import LEARNING_RATE, world
from steadyrl.policies.model_settings import Pretrained
from steadyrl.policies.numerics import Numerics
from steadyrl.records.run_folder import RunFolder, write_atomically
from steadyrl.report.run_data import read_run
from steadyrl.run.assembly import Assembly
from steadyrl.run.config import RunConfig, to_yaml
from steadyrl.run.execution import start_run
from steadyrl.run.manifest import manifest
from steadyrl.training.checkpoint import latest_checkpoint
from steadyrl.training.checkpointer import Checkpointer
from steadyrl.training.journal import Journal
from steadyrl.training.loop import train
from steadyrl.training.sampler import LocalSampler
from steadyrl.training.stage import RunPosition


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A way to run, and what a diagnosis should call it."""

    name: str
    settings: dict[str, Any]
    """Of `world`."""

    changes: dict[str, Any]
    """Of the configuration besides."""

    engine: Callable[[Engine], Engine] = WrappedEngine
    cause: CauseName | None = None
    """None for a sound run."""


def case(
    name: str,
    engine: Callable[[Engine], Engine] = WrappedEngine,
    cause: CauseName | None = None,
    sampling: Sampling | None = None,
    **settings: Any,
) -> Case:
    """A case with two updates a rollout and an FP8 engine, unless `settings` say otherwise."""
    settings = {"numerics": Numerics.FP8, "mini_batches": 2, **settings}
    changes = {} if sampling is None else {"sampling": sampling.model_dump()}
    return Case(name=name, settings=settings, changes=changes, engine=engine, cause=cause)


SOUND = (
    *(case("N = 2") for _ in range(3)),
    *(case("N = 2, R3", routing_replay="r3") for _ in range(2)),
    *(case("N = 1", mini_batches=1) for _ in range(2)),
    case("N = 4, R2", mini_batches=4, routing_replay="r2"),
    case("N = 2, top-p 0.7", sampling=Sampling(max_new_tokens=40, top_p=0.7)),
    case(
        "N = 2, bfloat16, temperature 0.7",
        numerics=Numerics.BFLOAT16,
        sampling=Sampling(max_new_tokens=40, temperature=0.7),
    ),
)

FAULTY = (
    case("weights not synced, N = 2", NeverSynced, CauseName.STALE_ENGINE),
    case("weights not synced, N = 1", NeverSynced, CauseName.STALE_ENGINE, mini_batches=1),
    case("engine at temperature 0.7", at_temperature(0.7), CauseName.TEMPERATURE),
    case("engine at temperature 1.4", at_temperature(1.4), CauseName.TEMPERATURE),
    case("top-p 0.7 not reported, N = 2", SilentTopP, CauseName.SAMPLING),
    case("top-p 0.7 not reported, N = 1", SilentTopP, CauseName.SAMPLING, mini_batches=1),
    case("routes shifted, R3", ShiftedRoutes, CauseName.ROUTES, routing_replay="r3"),
    case("routes shifted, R2", ShiftedRoutes, CauseName.ROUTES, routing_replay="r2"),
    case(
        "learning rate x 30, N = 2", cause=CauseName.LEARNING_RATE, learning_rate=30 * LEARNING_RATE
    ),
    case(
        "learning rate x 30, N = 1",
        cause=CauseName.LEARNING_RATE,
        learning_rate=30 * LEARNING_RATE,
        mini_batches=1,
    ),
)


class Options(Settings):
    """Inject faults, and see what the diagnosis says."""

    seed: int = 200
    """Of the cold start; the runs have the seeds that follow it."""

    cold_start_steps: int = 800
    gradient_steps: int = 48
    runs: Path | None = None
    """Where to keep the run folders; None: nowhere."""

    out: Path | None = None
    """Where to write the numbers as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the diagnoses of one run came to."""

    name: str
    seed: int
    cause: str | None
    """The injected one; None for a sound run."""

    alarm: int | None
    """The first step whose diagnosis is an alarm."""

    cause_at_alarm: str | None
    named: int | None
    """The first step from which on every diagnosis gives the injected cause."""

    status: str
    cause_at_end: str | None
    steps: int

    @property
    def right(self) -> bool:
        """Whether the run's cause is named at its end; for a sound run, whether no alarm was."""
        return self.alarm is None if self.cause is None else self.named is not None


def outcome_of(case: Case, seed: int, diagnoses: Sequence[Diagnosis]) -> Outcome:
    """What `diagnoses`, one after each step of a run of `case`, came to."""
    causes = [diagnosis.cause.name if diagnosis.cause else None for diagnosis in diagnoses]
    sick = [n for n, diagnosis in enumerate(diagnoses) if diagnosis.is_alarm]
    wrong = [number for number, cause in enumerate(causes) if cause != case.cause]
    named = max(wrong, default=-1) + 1
    return Outcome(
        name=case.name,
        seed=seed,
        cause=case.cause,
        alarm=diagnoses[sick[0]].steps if sick else None,
        cause_at_alarm=causes[sick[0]] if sick else None,
        named=diagnoses[named].steps if case.cause and named < len(diagnoses) else None,
        status=diagnoses[-1].status,
        cause_at_end=causes[-1],
        steps=diagnoses[-1].steps,
    )


def run_case(case: Case, seed: int, cold_start: Path, folder: Path, options: Options) -> Outcome:
    """Runs `case` from `cold_start` on, and diagnoses it after every step."""
    config = world(**case.settings, gradient_steps=options.gradient_steps)
    config = changed(
        config,
        seed=seed,
        model=Pretrained(path=str(cold_start)).model_dump(),
        cold_start=None,
        evaluation={**config.evaluation.model_dump(), "tasks": 32, "samples": 1},
        evaluate_every=options.gradient_steps,
        **case.changes,
    )
    folder.mkdir(parents=True)
    run = RunFolder(folder)
    write_atomically(run.config, to_yaml(config))
    diagnoses: list[Diagnosis] = []

    class Watch:
        def log(self, stage: Any, step: int, metrics: Mapping[str, Any]) -> None:
            if step > 0:
                data = read_run(run)
                diagnoses.append(diagnose(data.stages, data.settings))

        def note(self, stage: Any, step: int, text: str) -> None:
            pass

        def close(self) -> None:
            pass

    _train(config, case, run, Watch())
    return outcome_of(case, seed, diagnoses)


def _train(config: RunConfig, case: Case, run: RunFolder, watcher: Any) -> None:
    parts = Assembly.of(config)
    journal = Journal(run, config.journal, parts.stages, RunPosition(), opened=[watcher])
    engine = case.engine(parts.engine)
    try:
        drive(
            train(
                parts.stages,
                parts.learner,
                engine,
                LocalSampler(parts.stages, engine),
                parts.evaluator,
                journal,
                Checkpointer(run, config.journal),
                RunPosition(),
            )
        )
    except NonFiniteError as error:
        print(f"{case.name}: {error}", flush=True)
    finally:
        journal.close()


def cold_start(options: Options, path: Path) -> Path:
    """A checkpoint of the world's cold start, cut short."""
    config = world(Numerics.FP8)
    assert config.cold_start is not None
    shorter = {**config.cold_start.model_dump(), "steps": options.cold_start_steps}
    folder = start_run(changed(config, seed=options.seed, cold_start=shorter, steps=0), path)
    checkpoint = latest_checkpoint(folder)
    assert checkpoint is not None
    return checkpoint


def measure(options: Options, runs: Path) -> list[Outcome]:
    """The outcome of every case, printed as it comes."""
    start = cold_start(options, runs / "cold_start")
    outcomes = []
    for number, one in enumerate((*SOUND, *FAULTY), start=1):
        seed = options.seed + number
        outcome = run_case(one, seed, start, runs / f"{number:02d}", options)
        outcomes.append(outcome)
        print(
            f"{outcome.name:<34} seed {seed:<4} alarm {outcome.alarm or '-':<4}"
            f"named {outcome.named or '-':<4}{outcome.cause_at_end or outcome.status:<50}"
            f"{'right' if outcome.right else 'WRONG'}",
            flush=True,
        )
    return outcomes


def main(options: Options) -> None:
    """Prints the table and writes it."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as passing:
        outcomes = measure(options, options.runs or Path(passing))
    faulty = [outcome for outcome in outcomes if outcome.cause is not None]
    sound = [outcome for outcome in outcomes if outcome.cause is None]
    named = sum(outcome.right for outcome in faulty)
    alarms = sum(not outcome.right for outcome in sound)
    print(f"cause named in {named} of {len(faulty)}; alarms in {alarms} of {len(sound)} sound runs")
    if options.out is not None:
        content = {
            "named": named,
            "faulty": len(faulty),
            "false_alarms": alarms,
            "sound": len(sound),
            "gradient_steps": options.gradient_steps,
            "cold_start_steps": options.cold_start_steps,
            "runs": [asdict(outcome) for outcome in outcomes],
            **manifest(options.seed),
        }
        write_atomically(options.out, json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main(script_options(Options))
