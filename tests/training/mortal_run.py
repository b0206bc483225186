"""Runs that die at random points and go on from their last checkpoint.

    python -m tests.training.mortal_run FOLDER DEATHS SEED          whole processes die
    python -m tests.training.mortal_run FOLDER DEATHS SEED parts    engines, ranks or the driver die

dies by `os._exit` in forked processes, as if killed, or part by part as `mortal_parts` says, and
prints what became of each run as JSON.
The loop, the sampler, the journal and the checkpoints are real; the engine writes one token a step
without a model, and the learner's weights are the list of tasks that it has consumed.
"""

import asyncio
import json
import os
import random
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from steadyrl.algorithms.protocol import Experience, MiniBatch, Plan, Rollout
from steadyrl.engines.driver import drive
from steadyrl.engines.protocol import EngineCapabilities, Request, Sampling
from steadyrl.engines.stepped import SteppedEngine
from steadyrl.environments.protocol import Task
from steadyrl.learners.loss_term import LossTerm
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.learners.protocol import Update
from steadyrl.objectives import Aggregation, MiniRL
from steadyrl.objectives.measurements import TokenMeasurements
from steadyrl.policies.reach import Reach
from steadyrl.records.completion import Completion, FinishReason
from steadyrl.records.message import Message
from steadyrl.records.routing import RoutingReplay
from steadyrl.records.run_folder import RunFolder
from steadyrl.records.token_batch import TokenBatch
from steadyrl.records.trajectory import Group, Trajectory
from steadyrl.records.weight_source import StateDictWeights, WeightSource
from steadyrl.training.checkpoint import (
    latest_checkpoint,
    load_checkpoint,
    read_algorithm_state,
    read_waiting,
)
from steadyrl.training.checkpointer import Checkpointer
from steadyrl.training.continuous_sampler import ContinuousSampler
from steadyrl.training.evaluator import Evaluator
from steadyrl.training.journal import Journal, JournalSettings
from steadyrl.training.loop import train
from steadyrl.training.stage import RunPosition, Stage

PROMPTS, STEPS, CHECKPOINT_EVERY = 3, 7, 2
LONGEST_ANSWER = 9

Burn = Callable[[], None]
"""Called at every point of a run at which it may die."""


class Death(BaseException):
    """The end of a life."""


@dataclass
class Fuse:
    """Raises `Death`, or calls `end`, at point number `length`."""

    length: int
    end: Callable[[], None] | None = None
    burnt: int = 0

    def __call__(self) -> None:
        self.burnt += 1
        if self.burnt == self.length:
            if self.end is not None:
                self.end()
            raise Death


@dataclass(frozen=True)
class Way:
    """How a run samples."""

    max_staleness: int
    drops: bool = False
    splits: bool = True
    """False: an algorithm that remembers, and plays whole steps in order."""


class Typewriter(SteppedEngine):
    """Writes a token for each request in a step; the seed of a request decides how many."""

    def __init__(self, burn: Burn) -> None:
        super().__init__()
        self.capabilities = EngineCapabilities(
            max_positions=None, routing=False, exact_draws=True, scoring=False
        )
        self.policy_version = -1
        self.published: Callable[[], Any] | None = None
        self._burn = burn
        self._written: dict[int, tuple[Request, list[int]]] = {}
        self._submitted = 0

    def submit(self, request: Request) -> int:
        self._burn()
        self._submitted += 1
        self._written[self._submitted] = (request, [])
        return self._submitted

    def step(self) -> dict[int, list[Completion]]:
        self._burn()
        finished = {}
        for number, (request, versions) in list(self._written.items()):
            versions.append(self.policy_version)
            if len(versions) == length_of(request.seed):
                finished[number] = [completion_of(versions)] * request.num_completions
                del self._written[number]
        return finished

    def withdraw(self, number: int) -> None:
        self._written.pop(number, None)

    async def score(self, sequences: Sequence[Any]) -> Any:
        raise AssertionError("nothing is scored")

    async def sync(self, weights: WeightSource) -> None:
        """Writes as much as an engine does during an update, then goes on with new weights."""
        self._burn()
        for _ in range(random.Random(weights.version).randrange(6)):
            if self._waiting:
                self._advance()
                await asyncio.sleep(0)
        self.policy_version = weights.version
        self._burn()
        if self.published is not None:
            await self.published()


def length_of(seed: int) -> int:
    return random.Random(seed).choice((1, 2, 2, 3, LONGEST_ANSWER))


def completion_of(versions: Sequence[int]) -> Completion:
    return Completion(
        prompt_ids=torch.tensor([1]),
        token_ids=torch.ones(len(versions), dtype=torch.long),
        logprobs=torch.zeros(len(versions)),
        finish_reason=FinishReason.STOP,
        policy_version=versions[-1],
        versions=torch.tensor(versions),
    )


def batch_of(tasks: Sequence[int]) -> TokenBatch:
    """A batch whose groups have the numbers of the tasks."""
    shape = (len(tasks), 2)
    return TokenBatch(
        tokens=torch.zeros(shape, dtype=torch.long),
        attention_mask=torch.ones(shape, dtype=torch.bool),
        loss_mask=torch.tensor([False, True]).expand(shape),
        group_ids=torch.tensor(tasks),
        response_ids=torch.arange(len(tasks)),
        advantages=torch.zeros(shape),
    )


class Counting:
    """Asks once for each task. As one that remembers, its memory is the steps that it played."""

    samples_from_engine = True

    def __init__(self, burn: Burn, *, splits: bool) -> None:
        self.plays_parts = splits
        self.played: list[int] = []
        self._burn = burn

    def plan(self, step: int) -> Plan:
        numbers = range(step * PROMPTS, (step + 1) * PROMPTS)
        tasks = [
            Task(id=str(n), prompt=(Message(role="user", content=""),), payload=n) for n in numbers
        ]
        return Plan(step=step, tasks=tuple(tasks), seed=step)

    async def play(self, plan: Plan, engine: Any) -> Rollout:
        self._burn()
        groups = await asyncio.gather(*(self._group(task, engine) for task in plan.tasks))
        if not self.plays_parts:
            assert self.played == list(range(plan.step)), "it remembers exactly the steps before"
            self.played.append(plan.step)
        self._burn()
        return Rollout(groups=tuple(groups))

    async def _group(self, task: Task, engine: Any) -> Group:
        request = Request(
            prompt_ids=torch.tensor([1]),
            num_completions=2,
            seed=int(task.id),
            sampling=Sampling(),
        )
        trajectories = [
            Trajectory(
                task_id=task.id,
                messages=(Message(role="user", content=""),),
                completions=(completion,),
                reward=1.0 / len(completion.token_ids),
                terminated=True,
                truncated=False,
            )
            for completion in await engine.generate(request)
        ]
        return Group(task_id=task.id, trajectories=tuple(trajectories))

    def learn(self, rollout: Rollout) -> Experience:
        self._burn()
        tasks = [int(group.task_id) for group in rollout.groups]
        return Experience(mini_batches=((batch_of(tasks),),))

    def loss_terms(self, mini_batch: MiniBatch) -> tuple[LossTerm, ...]:
        return tuple(
            LossTerm(batch=batch, objective=MiniRL(), aggregation=Aggregation.TOKEN_SUM)
            for batch in mini_batch
        )


class Remembering(Counting):
    """One whose memory is saved."""

    def state(self) -> Any:
        return list(self.played)

    def load_state(self, state: Any) -> None:
        self.played = list(state)


class TaskLearner:
    """Its weights are the tasks that it has consumed."""

    max_positions = None
    replay = RoutingReplay.NONE

    def __init__(self, burn: Burn) -> None:
        self.policy_version = 0
        self.consumed: list[int] = []
        self._burn = burn

    def begin_stage(self, optimizer: OptimizerSettings, temperature: float, *, fresh: bool) -> None:
        self._burn()

    def load_reference(self, folder: Path | None) -> None:
        assert folder is None

    def save_reference(self, folder: Path) -> None:
        raise AssertionError("there is no reference")

    def publish_reference(self) -> WeightSource:
        raise AssertionError("there is no reference")

    def score(self, batch: TokenBatch) -> TokenBatch:
        raise AssertionError("a step has one mini-batch")

    def update(self, terms: Sequence[LossTerm], *, step: int, steps: int) -> Update:
        self._burn()
        self.consumed += [task for term in terms for task in term.batch.group_ids.tolist()]
        self.policy_version += 1
        self._burn()
        return Update(
            loss=0.0,
            gradient_norm=0.0,
            learning_rate=0.0,
            reach=Reach(weights_changed=1.0, update_reached=1.0),
            measurements=TokenMeasurements.join([]),
        )

    def publish(self) -> WeightSource:
        return StateDictWeights(state={}, version=self.policy_version)

    def save(self, folder: Path) -> None:
        self._burn()
        (folder / "consumed.json").write_text(json.dumps(self.consumed))
        self._burn()

    def load(self, folder: Path, *, policy_version: int) -> None:
        self.consumed = json.loads((folder / "consumed.json").read_text())
        self.policy_version = policy_version


class MortalJournal(Journal):
    """A journal whose run may die before and after each record."""

    burn: Burn

    def record(self, *args: Any) -> None:
        self.burn()
        super().record(*args)
        self.burn()


class MortalCheckpointer(Checkpointer):
    """A checkpointer whose run may die before and after each checkpoint."""

    burn: Burn

    def save(self, *args: Any) -> None:
        self.burn()
        super().save(*args)
        self.burn()


class NoEvaluator(Evaluator):
    def __init__(self) -> None:
        self.drift = None

    def is_due(self, *_: Any) -> bool:
        return False


def live(
    path: Path,
    way: Way,
    burn: Burn,
    engine: Any = None,
    learner: "TaskLearner | None" = None,
) -> None:
    """Starts the run in `path`, or goes on with it, to its end or death."""
    algorithm = (Counting if way.splits else Remembering)(burn, splits=way.splits)
    stage = Stage(
        name="rl",
        algorithm=algorithm,
        steps=STEPS,
        optimizer=OptimizerSettings(),
        temperature=1.0,
    )
    folder, stages = RunFolder(path), [stage]
    path.mkdir(parents=True, exist_ok=True)
    learner, engine = learner or TaskLearner(burn), engine or Typewriter(burn)
    sampler = ContinuousSampler(stages, engine, max_staleness=way.max_staleness, drops=way.drops)
    engine.published = sampler.publish
    position, checkpoint = RunPosition(), latest_checkpoint(folder)
    if checkpoint is not None:
        position = load_checkpoint(checkpoint, learner)
        state = read_algorithm_state(checkpoint, stages)
        if state is not None:
            sampler.load_state(0, state)
        waiting = read_waiting(checkpoint)
        if waiting is not None:
            sampler.load_waiting(0, waiting)
    settings = JournalSettings(checkpoint_every=CHECKPOINT_EVERY)
    journal = MortalJournal(folder, settings, stages, position)
    checkpointer = MortalCheckpointer(folder, settings)
    journal.burn = checkpointer.burn = burn
    drive(train(stages, learner, engine, sampler, NoEvaluator(), journal, checkpointer, position))


def outcome(path: Path) -> dict[str, Any]:
    """What a finished run consumed, and what it recorded."""
    folder = RunFolder(path)
    last = latest_checkpoint(folder)
    assert last is not None
    schedule = json.loads((last / "schedule.json").read_text())
    parts = path / "deaths.json"
    return {
        "consumed": json.loads((last / "consumed.json").read_text()),
        "steps": [row["step"] for row in folder.read_metrics()],
        "oldest": [row["staleness_oldest"] for row in folder.read_metrics()],
        "mean": [row["staleness"] for row in folder.read_metrics()],
        "cursor": schedule["cursor"],
        "dropped": schedule["dropped"],
        "waiting": [unit for unit, _ in schedule["waiting"]],
        "parts": json.loads(parts.read_text()) if parts.exists() else {},
    }


WAYS = (Way(0), Way(1), Way(3), Way(1, drops=True), Way(2, splits=False))
LONGEST_LIFE = 150
"""Points; a whole run has some 300."""


Life = Callable[[Path, Way, int], int]
"""Runs for at most so many points; returns the number of deaths, 0: the run is over."""


def die_often(
    path: Path, deaths: int, seed: int, life: Life
) -> list[tuple[Way, dict[str, Any], int]]:
    """Outcomes of runs in turn until there were `deaths` deaths, and the deaths of each."""
    draw = random.Random(seed)
    found, died, run = [], 0, 0
    while died < deaths:
        way, folder, own = WAYS[run % len(WAYS)], path / str(run), 0
        while now := life(folder, way, draw.randint(1, LONGEST_LIFE)):
            own += now
        found.append((way, outcome(folder), own))
        died, run = died + own, run + 1
    return found


def die_by_exception(path: Path, way: Way, points: int) -> int:
    try:
        live(path, way, Fuse(points))
    except Death:
        return 1
    return 0


def die_by_exit(path: Path, way: Way, points: int) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            live(path, way, Fuse(points, end=lambda: os._exit(9)))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, 9), f"the run in {path} failed"
    return int(code != 0)


if __name__ == "__main__":
    folder, count, first, *parts = sys.argv[1:]
    life: Life = die_by_exit
    if parts:
        from tests.run.placement.mortal_parts import die_in_parts as life
    runs = die_often(Path(folder), int(count), int(first), life)
    print(json.dumps([{"way": vars(way), **found, "deaths": own} for way, found, own in runs]))
