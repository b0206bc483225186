"""Enforcement of an environment's turn limit."""

from functools import partial
from typing import Any

from steadyrl.base.concurrency import await_if_needed, in_thread
from steadyrl.environments.protocol import (
    Environment,
    Episode,
    Outcome,
    Split,
    SupportsTaskCount,
    Task,
)

_OPTIONAL = ("guide", "score_group", "close")
"""Optional methods of environments. `distinct_tasks` is not listed, since it can return None."""


class TooManyTurnsError(RuntimeError):
    """An episode continues after its last turn."""


def with_turn_limit(environment: Environment, turns: int, *, blocks: bool = False) -> Environment:
    """`environment` with episodes that fail if they are not over after `turns` turns.

    The result has the name of the environment's type, for messages, and its optional methods.

    Args:
        blocks: Whether `respond` blocks, so that each call runs in a thread.
    """
    kind = type(environment)
    own = {name: getattr(environment, name) for name in _OPTIONAL if hasattr(environment, name)}
    limited: Environment = type(kind.__name__, (_TurnLimit,), own)(environment, turns, blocks)
    return limited


class _TurnLimit:
    def __init__(self, environment: Environment, turns: int, blocks: bool) -> None:
        self._environment = environment
        self._turns = turns
        self._blocks = blocks

    def task(self, split: Split, index: int) -> Task:
        """Task of the environment."""
        return self._environment.task(split, index)

    def distinct_tasks(self, split: Split) -> int | None:
        """Number of tasks of the environment; None if unknown."""
        if not isinstance(self._environment, SupportsTaskCount):
            return None
        return self._environment.distinct_tasks(split)

    def start(self, task: Task) -> Any:
        """An attempt with a turn limit. Anything that is not an episode is returned unchanged."""
        episode = self._environment.start(task)
        if not isinstance(episode, Episode):
            return episode
        return _LimitedEpisode(episode, self._turns, blocks=self._blocks)


class _LimitedEpisode:
    def __init__(self, episode: Episode, turns: int, *, blocks: bool) -> None:
        self._episode = episode
        self._turns = turns
        self._blocks = blocks
        self._taken = 0

    async def respond(self, text: str) -> Outcome:
        """Outcome of the model's turn."""
        call = partial(self._episode.respond, text)
        outcome = await await_if_needed(await in_thread(call) if self._blocks else call())
        self._taken += 1
        if isinstance(outcome, Outcome) and not outcome.terminated and self._taken >= self._turns:
            raise TooManyTurnsError(
                f"the episode is not over after turn {self._taken}, but environment.turns is "
                f"{self._turns}. Return terminated=True, or raise environment.turns to the "
                "maximum number of turns per episode"
            )
        return outcome
