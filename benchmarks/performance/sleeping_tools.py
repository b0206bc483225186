"""A rollout whose tools sleep: its time against that of its slowest episode.

    python -m benchmarks.performance.sleeping_tools

64 episodes of 8 turns of the demo's cold-started model; every answer of the environment takes 50 to
1,000 ms, drawn uniformly. The episode that sleeps longest is then played alone: its own time.
"""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from benchmarks.performance.demo_world import demo_world
from benchmarks.performance.worlds import World

from steadyrl.base.settings import Settings
from steadyrl.cli.options import script_options
from steadyrl.engines.driver import drive
from steadyrl.engines.local import LocalEngine
from steadyrl.environments.protocol import Environment, Outcome, Split, Task
from steadyrl.records.trajectory import Group
from steadyrl.rollout.episodes import play_groups

SHORTEST, LONGEST = 0.05, 1.0
"""Seconds that an answer of the environment takes."""


class Options(Settings):
    """Time a rollout whose tools sleep."""

    episodes: int = 64
    turns: int = 8

    rounds: int = 3
    """Rollouts, each with sleeps of its own."""

    seed: int = 0
    """Seed of the first round's sleeps."""

    work: Path = Path("runs/performance")
    """Folder that keeps the cold-started model."""


class SleepingTools:
    """Asks the same problem again and again, and sleeps before each time.

    Args:
        sleeps: Seconds of each answer; one row per episode, in the order in which they start.
    """

    def __init__(self, problems: Environment, sleeps: np.ndarray) -> None:
        self._problems = problems
        self._rows = iter(sleeps.tolist())

    def task(self, split: Split, index: int) -> Task:
        """A problem."""
        return self._problems.task(split, index)

    def start(self, task: Task) -> "SleepingEpisode":
        """An episode that sleeps as its row says."""
        return SleepingEpisode(task, next(self._rows))


@dataclass(slots=True)
class SleepingEpisode:
    """An episode that is over when no sleep is left."""

    task: Task
    sleeps: list[float]

    async def respond(self, text: str) -> Outcome:
        """Sleeps, then asks again."""
        await asyncio.sleep(self.sleeps.pop())
        if not self.sleeps:
            return Outcome(reward=1.0, terminated=True)
        return Outcome(reward=0.0, terminated=False, observation=self.task.prompt)


def main(options: Options) -> None:
    """Prints the time of the rollout, of its slowest episode alone, and their ratio."""
    torch.set_num_threads(1)
    world = demo_world(options.work, torch.device("cpu"))
    policy = world.policy()
    engine = world.engine(policy)
    for number in range(options.rounds):
        generator = np.random.default_rng(options.seed + number)
        sleeps = generator.uniform(SHORTEST, LONGEST, (options.episodes, options.turns))
        together = play(world, engine, sleeps)
        slowest = sleeps[[sleeps.sum(axis=1).argmax()]]
        alone = play(world, engine, slowest)
        print(
            f"seed {options.seed + number}: {options.episodes} episodes {together:.2f} s; the "
            f"slowest alone {alone:.2f} s, of which {slowest.sum():.2f} s asleep; "
            f"ratio {together / alone:.3f}"
        )


def play(world: World, engine: LocalEngine, sleeps: np.ndarray) -> float:
    """Seconds that the episodes with these sleeps take together."""
    environment = SleepingTools(world.environment, sleeps)
    started = time.perf_counter()
    groups = drive(
        play_groups(
            environment,
            engine,
            world.tokenizer(),
            [environment.task(Split.TRAIN, number) for number in range(len(sleeps))],
            group_size=1,
            sampling=world.sampling,
            seed=0,
        )
    )
    seconds = time.perf_counter() - started
    check_all_turns(groups, turns=sleeps.shape[1])
    return seconds


def check_all_turns(groups: list[Group], *, turns: int) -> None:
    """Raises RuntimeError unless every episode took all its turns."""
    taken = [len(group.trajectories[0].completions) for group in groups]
    if set(taken) != {turns}:
        raise RuntimeError(f"Episodes took {min(taken)} to {max(taken)} turns, not {turns}.")


if __name__ == "__main__":
    main(script_options(Options))
