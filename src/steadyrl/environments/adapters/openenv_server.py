"""Any environment of this package behind an OpenEnv server.

Saved as `my_server.py`, with the extra `openenv`, and started by `uvicorn my_server:app`:

    from steadyrl.environments import FrozenLakeSettings
    from steadyrl.environments.adapters.openenv_server import openenv_app

    app = openenv_app(FrozenLakeSettings())
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from openenv.core.env_server import create_fastapi_app
from openenv.core.env_server.interfaces import Environment as OpenEnvironment
from openenv.core.env_server.types import Action, Observation, State
from pydantic import Field

from steadyrl.base.concurrency import await_if_needed, in_thread
from steadyrl.base.errors import UserError
from steadyrl.environments.protocol import (
    Environment,
    Episode,
    Outcome,
    Split,
    SupportsGroupScores,
    SupportsTaskCount,
    Task,
)
from steadyrl.environments.settings import EnvironmentSettings
from steadyrl.records.message import Message

MAX_LISTED = 1000
"""Maximum number of tasks in a list of all."""


class TextAction(Action):
    """A turn of the model."""

    text: str = Field(description="Answer with text.")


class TextObservation(Observation):
    """What the model reads. Feedback and parts of the reward are in the metadata."""

    text: str = Field("", description="Text of all new messages.")
    messages: list[dict[str, str]] = Field(
        default_factory=list, description="All new messages, with role and content."
    )
    tools: list[dict[str, Any]] = Field(
        default_factory=list, description="Schemas of the tools of the task."
    )


class ServedEnvironment(OpenEnvironment[TextAction, TextObservation, State]):
    """One session. Tasks are chosen by `split` and `index`, or by the seed among those to train on.

    Args:
        environment: The environment that all sessions share.
    """

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, environment: Environment) -> None:
        super().__init__()
        self._environment = environment
        self._episode: Episode | None = None
        self._state = State()

    def reset(
        self,
        seed: int | None = None,
        episode_id: str | None = None,
        split: str = "train",
        index: int | None = None,
        **_: Any,
    ) -> TextObservation:
        """Begins a task."""
        task = self._task(split, (seed or 0) if index is None else index)
        self._episode = self._environment.start(task)
        self._state = State(episode_id=episode_id or task.id)
        return _observation(task.prompt, tools=list(task.tools))

    def step(self, action: TextAction, timeout_s: float | None = None, **_: Any) -> TextObservation:
        """Not called: the server prefers `step_async`."""
        raise NotImplementedError

    async def step_async(
        self, action: TextAction, timeout_s: float | None = None, **_: Any
    ) -> TextObservation:
        """Outcome of a turn."""
        if self._episode is None:
            raise RuntimeError("the episode is over, or was not begun: reset first")
        # Other sessions continue, even if `respond` blocks.
        call = partial(self._episode.respond, action.text)
        outcome: Outcome = await await_if_needed(await in_thread(call))
        self._state.step_count += 1
        if outcome.terminated:
            self._episode = None
        return _observation(
            outcome.observation,
            reward=outcome.reward,
            done=outcome.terminated,
            metadata={"feedback": outcome.feedback, "reward_parts": dict(outcome.reward_parts)},
        )

    @property
    def state(self) -> State:
        """Id of the task, and number of turns."""
        return self._state

    def list_splits(self) -> list[str]:
        """Names of the splits."""
        return [str(split) for split in Split]

    def num_tasks(self, split: str) -> int:
        """Number of tasks.

        Raises:
            NotImplementedError: there is no limit. The server says that it is not supported.
        """
        environment = self._environment
        if not isinstance(environment, SupportsTaskCount):
            raise NotImplementedError
        count = environment.distinct_tasks(Split(split))
        if count is None:
            raise NotImplementedError
        return count

    def list_tasks(self, split: str) -> list[dict[str, Any]]:
        """The first tasks of a split."""
        return self.get_task_range(split, 0, min(self.num_tasks(split), MAX_LISTED))

    def get_task(self, split: str, index: int) -> dict[str, Any]:
        """A task: its id and messages."""
        task = self._task(split, index)
        return {"id": task.id, "index": index, "messages": _wire(task.prompt)}

    def get_task_range(
        self, split: str, start: int | None = None, stop: int | None = None
    ) -> list[dict[str, Any]]:
        """The tasks of a slice."""
        places = range(self.num_tasks(split))[start:stop]
        return [self.get_task(split, index) for index in places[:MAX_LISTED]]

    def _task(self, split: str, index: int) -> Task:
        return self._environment.task(Split(split), index)


def openenv_app(settings: EnvironmentSettings, *, sessions: int = 64) -> Any:
    """The server of an environment, a FastAPI application.

    Args:
        sessions: Maximum number of sessions at the same time.

    Raises:
        UserError: the environment cannot be made, or its episodes cannot be served.
    """
    environment = settings.make()
    if settings.runs_agents or isinstance(environment, SupportsGroupScores):
        raise UserError(
            f"{settings.name} cannot be served: its rewards compare episodes, or it runs programs "
            "of its own."
        )
    make = partial(ServedEnvironment, environment)
    label = settings.name.rpartition(":")[2].casefold()
    return create_fastapi_app(
        make, TextAction, TextObservation, max_concurrent_envs=sessions, env_name=label
    )


def _observation(messages: Sequence[Message], **fields: Any) -> TextObservation:
    text = "\n\n".join(message.content for message in messages)
    return TextObservation(text=text, messages=_wire(messages), **fields)


def _wire(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]
