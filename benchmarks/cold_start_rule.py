"""Whether cold starts on drills pass the rule by which worlds of Experiential RL are chosen.

    python benchmarks/cold_start_rule.py runs/lake runs/questions
    python benchmarks/cold_start_rule.py runs/lake/checkpoints/*

On validation tasks, with drawn meanings as in the drills, a policy is to solve at least 0.4 more of
them under the true rulebook than alone, and to write at least 0.8 of its reflections exactly right.
It answers in float32, in its turns at the run's temperature and in reflections at the paper's.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from transformers import PreTrainedTokenizerBase

from steadyrl.algorithms.reflection import PolicyReflector
from steadyrl.base.concurrency import concurrently
from steadyrl.base.errors import UserError
from steadyrl.base.settings import Settings
from steadyrl.cli.option_names import Positional
from steadyrl.cli.options import script_options
from steadyrl.engines.driver import drive
from steadyrl.engines.local import LocalEngineSettings
from steadyrl.engines.protocol import Engine, Sampling
from steadyrl.environments.grid_environment import GridEnvironment
from steadyrl.environments.hotpot_qa import HotpotQA
from steadyrl.environments.protocol import Environment, Split, Task
from steadyrl.lab.worlds.experiential_recipes import REFLECTION
from steadyrl.lab.worlds.grid_drills import GridDrills, GridDrillSettings
from steadyrl.lab.worlds.question_drills import QuestionDrills, QuestionDrillSettings
from steadyrl.policies.numerics import Numerics
from steadyrl.records.run_folder import RunFolder, write_atomically
from steadyrl.rollout.episodes import play_groups
from steadyrl.rollout.seeds import derive_seed
from steadyrl.run.assembly import Assembly
from steadyrl.run.config import from_yaml
from steadyrl.run.manifest import manifest
from steadyrl.training.checkpoint import load_checkpoint, read_place, whole_checkpoints

GAIN, EXACT = 0.4, 0.8
ALONE, GUIDED, PLAYED, REFLECTED = range(4)
"""What random numbers are for: the first step of their path from the seed."""


class Options(Settings):
    """Measure cold starts on drills by the rule for worlds of Experiential RL."""

    runs: Annotated[tuple[Path, ...], Positional()]
    """Run folders, measured at the end of their cold start, or checkpoints in such folders."""

    tasks: int = 500
    """Validation tasks, each met in all three ways."""

    seed: int = 0
    """Of the sampling, and of the attempts that are reflected on."""

    out: Path | None = None
    """Where to write the numbers as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What became of the tasks.

    Example:
        Counts(tasks=500, alone=90, guided=340, exact=480)
    """

    tasks: int

    alone: int
    """Solved without a rulebook."""

    guided: int
    """Solved under the true rulebook."""

    exact: int
    """Reflections that hold what feedback and memory tell, and nothing else."""

    @property
    def passes(self) -> bool:
        """Whether they meet the rule."""
        gained = self.guided - self.alone
        return gained >= GAIN * self.tasks and self.exact >= EXACT * self.tasks


def measured(checkpoint: Path, *, tasks: int, seed: int) -> Counts:
    """The counts of the weights in `checkpoint`, on the drills of its run.

    Raises:
        UserError: the run had no cold start on drills.
    """
    config = from_yaml(RunFolder(checkpoint.parents[1]).config)
    teacher = config.cold_start and config.cold_start.teacher
    if not isinstance(teacher, GridDrillSettings | QuestionDrillSettings):
        raise UserError(
            f"The run of {checkpoint} has no cold start on drills, so the rule says nothing about "
            "it. Give a run whose cold_start.teacher is 'grid_drills' or 'question_drills'."
        )
    float32 = LocalEngineSettings(numerics=Numerics.FLOAT32)
    assembly = Assembly.of(config.model_copy(update={"engine": float32}))
    load_checkpoint(checkpoint, assembly.learner)
    drive(assembly.engine.sync(assembly.learner.publish()))
    tokenizer = assembly.tokenizer
    return counted(teacher, assembly.engine, tokenizer, config.sampling, tasks=tasks, seed=seed)


def counted(
    teacher: GridDrillSettings | QuestionDrillSettings,
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    sampling: Sampling,
    *,
    tasks: int,
    seed: int,
) -> Counts:
    """The counts of the engine's policy on validation tasks of the drills' world."""
    world = teacher.environment.make()
    assert isinstance(world, GridEnvironment | HotpotQA)
    drills = _reflections_alone(teacher)
    unaided = [world.task(Split.VALIDATION, index) for index in range(tasks)]
    told = [world.guide(task, drills.rulebook(task)) for task in unaided]
    alone, guided = (
        _solved(world, asked, engine, tokenizer, sampling, derive_seed(seed, use))
        for use, asked in ((ALONE, unaided), (GUIDED, told))
    )
    exact = _exact(drills, tasks, engine, tokenizer, seed)
    return Counts(tasks=tasks, alone=alone, guided=guided, exact=exact)


def _reflections_alone(
    teacher: GridDrillSettings | QuestionDrillSettings,
) -> GridDrills | QuestionDrills:
    shares = {"first_attempts": 0.0, "reflections": 1.0, "retries": 0.0}
    if isinstance(teacher, QuestionDrillSettings):
        return QuestionDrills(teacher.model_copy(update=shares))
    shares |= {"plain": 0.0, "half_plain": 0.0}
    return GridDrills(teacher.model_copy(update=shares))


def _solved(
    world: Environment,
    tasks: list[Task],
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    sampling: Sampling,
    seed: int,
) -> int:
    groups = drive(
        play_groups(world, engine, tokenizer, tasks, group_size=1, sampling=sampling, seed=seed)
    )
    return sum(group.trajectories[0].reward == 1 for group in groups)


def _exact(
    drills: GridDrills | QuestionDrills,
    tasks: int,
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
) -> int:
    """Of reflections on random attempts, half of them with a memory, those that are as drilled."""
    generator = np.random.default_rng(derive_seed(seed, PLAYED))
    played = [drills.task(Split.VALIDATION, index) for index in range(tasks)]
    asked = [drills.demonstrate(task, generator) for task in played]
    reflector = PolicyReflector(REFLECTION, tokenizer)
    reflections = drive(
        concurrently(
            reflector.reflect(drill.prompt, engine, derive_seed(seed, REFLECTED, number))
            for number, drill in enumerate(asked)
        )
    )
    return sum(
        reflection.lesson == drill.continuation[0].content
        for reflection, drill in zip(reflections, asked, strict=True)
    )


def checkpoint_of(path: Path) -> Path:
    """`path`, if it is a checkpoint; else that at the end of the cold start of the run in it.

    Raises:
        UserError: it is neither, or there is no such checkpoint yet.
    """
    if path.parent.name == "checkpoints":
        return path
    found = [place for place in whole_checkpoints(RunFolder(path)) if read_place(place)[0] == 0]
    if not found:
        raise UserError(
            f"{path} has no checkpoint of a cold start. Give a folder that 'steadyrl train' wrote, "
            "or one of its checkpoints."
        )
    return found[-1]


def main(options: Options) -> None:
    """Prints a row for each checkpoint, and writes them."""
    rows = []
    print(f"{'checkpoint':<44}{'alone':>12}{'guided':>12}{'exact':>12}")
    for checkpoint in map(checkpoint_of, options.runs):
        counts = measured(checkpoint, tasks=options.tasks, seed=options.seed)
        name = f"{checkpoint.parents[1].name}/{checkpoint.name}"
        cells = (counts.alone, counts.guided, counts.exact)
        shares = "".join([f"{f'{n} ({n / counts.tasks:.2f})':>12}" for n in cells])
        print(f"{name:<44}{shares}  {'passes' if counts.passes else 'fails'}", flush=True)
        config = from_yaml(RunFolder(checkpoint.parents[1]).config)
        world = {"environment": config.environment.name, "seed": config.seed}
        rows.append({"checkpoint": name, **world, **asdict(counts), "passes": counts.passes})
    if options.out is not None:
        content = {"rows": rows, **manifest(options.seed)}
        write_atomically(options.out, json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main(script_options(Options))
