"""Any environment of steadyrl as a taskset of verifiers, with the conversation that it leads."""

from collections.abc import Iterator
from itertools import count
from math import fsum
from typing import Any

import verifiers.v1 as vf
from pydantic import Field, TypeAdapter

from steadyrl.base.concurrency import await_if_needed
from steadyrl.environments import Environment, EnvironmentSettings, Message, Split, Task
from steadyrl.environments.protocol import Outcome, SupportsGroupScores, SupportsTaskCount
from steadyrl.environments.registry import AnyEnvironment

SETTINGS: TypeAdapter[EnvironmentSettings] = TypeAdapter(AnyEnvironment)


class SteadyrlData(vf.TaskData):
    """The place of a task in its environment."""

    split: Split
    number: int


class SteadyrlTask(vf.Task[SteadyrlData]):
    """A task, judged turn by turn while it is played."""

    environment: Environment
    task: Task


class SteadyrlConfig(vf.TasksetConfig):
    """Which environment, and which of its tasks."""

    environment: dict[str, Any] = Field(default_factory=lambda: {"name": "arithmetic"})
    """Settings of the environment, as in a configuration of steadyrl."""

    split: Split = Split.TRAIN


class SteadyrlTaskset(vf.Taskset[SteadyrlTask, SteadyrlConfig]):
    """The tasks of one split, in their order; without an end if the environment knows none."""

    INFINITE = True

    def load(self) -> Iterator[SteadyrlTask]:
        """The tasks."""
        settings = SETTINGS.validate_python(self.config.environment)
        environment = settings.make()
        if isinstance(environment, SupportsGroupScores) or settings.runs_agents:
            raise ValueError(
                f"{settings.name} cannot be exported: its rewards compare episodes, or it runs "
                "programs of its own"
            )
        split = self.config.split
        limit = None
        if isinstance(environment, SupportsTaskCount):
            limit = environment.distinct_tasks(split)
        for number in count() if limit is None else range(limit):
            task = environment.task(split, number)
            data = SteadyrlData(id=task.id, prompt=_wire(task.prompt), split=split, number=number)
            exported = SteadyrlTask(data, self.config.task)
            exported.environment, exported.task = environment, task
            yield exported


class SteadyrlEnv(vf.SingleAgentEnv):
    """Passes each reply to the environment, and its observations to the model."""

    async def run(self, task: Any, agents: vf.Agents) -> None:
        """Plays one episode, and records its reward and its parts."""
        episode = task.environment.start(task.task)
        outcomes: list[Outcome] = []
        async with agents.agent.interaction(task) as interaction:
            segment = await interaction.turn()
            while not segment.terminated:
                outcome = await await_if_needed(episode.respond(segment.last_reply))
                outcomes.append(outcome)
                if outcome.terminated:
                    break
                segment = await interaction.turn(_wire(outcome.observation))
        _record(interaction.trace, outcomes)


def _record(trace: vf.Trace, outcomes: list[Outcome]) -> None:
    trace.record_reward("reward", fsum(outcome.reward for outcome in outcomes))
    parts: dict[str, list[float]] = {}
    for outcome in outcomes:
        for name, part in outcome.reward_parts.items():
            parts.setdefault(name, []).append(part)
    for name, values in parts.items():
        trace.record_metric(name, fsum(values))


def _wire(messages: tuple[Message, ...]) -> Any:
    """The messages in the form of verifiers."""
    return [{"role": message.role, "content": message.content} for message in messages]
