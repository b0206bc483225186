"""A cold start in the skills that an episode of Experiential RL needs, on grid games.

    first attempt     board                                      -> a plan
    reflection        memory; board, plan, feedback, reward      -> the rulebook, where it is known
    second attempt    rulebook; board                            -> a plan that follows it
    retry             plan, feedback; board                      -> a plan that heeds the feedback

Retries are what the controls do: they read the record of a failed attempt as it is, in the place of
the rulebook (no reflection) or as a conversation that goes on (`second_chance.SecondChance`).

Every drill has a meaning of symbols and actions of its own, so that a model learns to use rulebooks
and to write them, and knows none. What a board alone does not tell, the first attempt guesses.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from steadyrl.algorithms.reflection_prompts import (
    AttemptRecord,
    ReflectionStyle,
    reflection_prompt,
    task_with_record,
)
from steadyrl.base.variants import Variants
from steadyrl.environments.frozen_lake import FrozenLakeSettings
from steadyrl.environments.grid_compact import revealed_rulebook
from steadyrl.environments.grid_environment import GridEnvironment, GridSettings
from steadyrl.environments.grid_meaning import MeaningSource
from steadyrl.environments.grid_moves import Move
from steadyrl.environments.protocol import Demonstration, Environment, Task
from steadyrl.environments.sokoban import SokobanSettings
from steadyrl.lab.worlds.drills import Drills, DrillSettings, MakeDrill, answer, drill
from steadyrl.lab.worlds.rulebooks import completed, partly_known
from steadyrl.rollout.tasks import check_outcome


class GridDrillSettings(DrillSettings):
    """Shares of each kind of drill, and the games."""

    name: Literal["grid_drills"] = "grid_drills"

    environment: Annotated[
        GridSettings,
        Variants(GridSettings, None, FrozenLakeSettings, SokobanSettings),
    ] = FrozenLakeSettings(
        rendering="compact", symbols=MeaningSource.PERMUTED, actions=MeaningSource.PERMUTED
    )
    """Games in the compact rendering, whose meanings are permuted."""

    first_attempts: float = Field(0.2, ge=0, le=1)
    """Share of drills that are first attempts."""

    reflections: float = Field(0.3, ge=0, le=1)
    """Share of drills that are reflections."""

    retries: float = Field(0.0, ge=0, le=1)
    """Share of drills that are retries."""

    plain: float = Field(0.0, ge=0, le=1)
    """Share of drills whose rulebook names each direction by its own arrow, and whose plan is in
    arrows: what can be learned of boards before rulebooks can be read."""

    half_plain: float = Field(0.0, ge=0, le=1)
    """Share of drills in which half of the directions are so named, at random: what a rulebook says
    of each has to be looked up, and boards are learned at the same time. The rest are second
    attempts."""

    prior: bool = False
    """First attempts act by the meaning of number 0, whatever that of the drill: a policy that is
    sure of rules which do not hold seldom guesses others."""

    hidden_pairs: float = Field(0.25, ge=0, lt=1)
    """Probability that a rulebook, or a memory, does not know a pair."""

    @model_validator(mode="after")
    def _drills_can_be_made(self) -> "GridDrillSettings":
        if self.environment.rendering != "compact":
            raise ValueError(
                f"environment.rendering is {self.environment.rendering!r}: drills are written in "
                "the compact rendering. Set it to 'compact'."
            )
        if MeaningSource.PERMUTED not in (self.environment.symbols, self.environment.actions):
            raise ValueError(
                "environment has neither symbols nor actions that are permuted: there would be "
                "nothing to find out. Set one of them to 'permuted'."
            )
        shares = ("first_attempts", "reflections", "retries", "plain", "half_plain")
        if sum([getattr(self, share) for share in shares]) > 1:
            stated = ", ".join([f"{share} is {getattr(self, share)}" for share in shares])
            raise ValueError(f"{stated}: together more than 1. Lower one of them.")
        return self

    def make(self, environment: Environment) -> "GridDrills":
        """The drills; the run's own `environment` is not among their tasks."""
        return GridDrills(self)


class GridDrills(Drills):
    """Drills, each with a fresh game and meaning."""

    _environment: GridEnvironment

    def __init__(self, settings: GridDrillSettings) -> None:
        self._settings = settings
        super().__init__(settings.environment.make())

    def kinds(self) -> Sequence[tuple[float, MakeDrill]]:
        """Kinds of drills whose continuation is a plan or a rulebook."""
        settings = self._settings
        return (
            (settings.first_attempts, self._first_attempt),
            (settings.reflections, self._reflection),
            (settings.retries, self._retry),
            (settings.plain, self._plain),
            (settings.half_plain, self._half_plain),
            (1.0, self._second_attempt),
        )

    def rulebook(self, task: Task) -> str:
        """The pairs of the rulebook of `task` that differ between games."""
        return self._hidden(self._environment.rulebook(task))

    def _first_attempt(self, task: Task, _generator: np.random.Generator) -> Demonstration:
        if not self._settings.prior:
            return drill(task.prompt, self._solution(task))
        actions = tuple(Move)
        meaning = replace(task.payload.meaning, actions=actions)
        believed = replace(task, payload=replace(task.payload, meaning=meaning))
        return drill(task.prompt, self._solution(believed))

    def _second_attempt(self, task: Task, generator: np.random.Generator) -> Demonstration:
        hidden = self._settings.hidden_pairs
        rulebook = partly_known(self.rulebook(task), hidden, generator)
        return drill(self._environment.guide(task, rulebook).prompt, self._solution(task))

    def _plain(self, task: Task, _generator: np.random.Generator) -> Demonstration:
        return self._named_by_arrows(task, tuple(Move))

    def _half_plain(self, task: Task, generator: np.random.Generator) -> Demonstration:
        half = generator.permutation(list(Move))[: len(Move) // 2]
        return self._named_by_arrows(task, [Move(move) for move in half])

    def _named_by_arrows(self, task: Task, moves: Collection[Move]) -> Demonstration:
        """The words of `moves` are their arrows, in the rulebook and in the plan."""
        meaning = task.payload.meaning
        arrow_of = {meaning.word(move).key: move.arrow for move in moves}
        named = [
            pair if pair[0] not in arrow_of.values() else 2 * pair[0]
            for pair in self.rulebook(task).split()
        ]
        plan = "".join([arrow_of.get(key, key) for key in self._solution(task)])
        return drill(self._environment.guide(task, " ".join(named)).prompt, plan)

    def _hidden(self, rulebook: str) -> str:
        """Its pairs of symbols if these are permuted, and of actions if those are."""
        environment = self._settings.environment
        arrows = {move.arrow for move in Move}
        return " ".join(
            pair
            for pair in rulebook.split()
            if (environment.actions if pair[0] in arrows else environment.symbols)
            is MeaningSource.PERMUTED
        )

    def _solution(self, task: Task) -> str:
        (plan,) = self._environment.solution(task)
        return plan

    def _reflection(self, task: Task, generator: np.random.Generator) -> Demonstration:
        """A random plan is played; the rulebook is what its feedback and the memory tell."""
        memory = ""
        if generator.random() < 0.5:
            hidden = self._settings.hidden_pairs
            memory = partly_known(self.rulebook(task), hidden, generator)
        record = replace(self._attempt(task, generator), memory=memory)
        seen = revealed_rulebook(task.payload.meaning.legend, record.feedback)
        rulebook = completed(self._hidden(seen), memory)
        return drill(reflection_prompt(record, ReflectionStyle.COMPACT), rulebook)

    def _retry(self, task: Task, generator: np.random.Generator) -> Demonstration:
        """A random plan fails; its record stands before the board, or the conversation goes on."""
        record = self._attempt(task, generator)
        while record.reward == 1:
            record = self._attempt(task, generator)
        if generator.random() < 0.5:
            prompt = task_with_record(task, record, ReflectionStyle.COMPACT).prompt
        else:
            again = self._conversation.start(task).respond(record.attempt)
            prompt = (*task.prompt, *answer(record.attempt), *check_outcome(again).observation)
        return drill(prompt, self._solution(task))

    def _attempt(self, task: Task, generator: np.random.Generator) -> AttemptRecord:
        """The outcome of a random plan."""
        length = int(generator.integers(1, task.payload.moves + 1))
        plan = "".join(generator.choice([move.key for move in Move], size=length))
        outcome = check_outcome(self._environment.start(task).respond(plan))
        return AttemptRecord(
            task="\n".join(message.content for message in task.prompt),
            attempt=plan,
            feedback=outcome.feedback,
            reward=outcome.reward,
            memory="",
        )
