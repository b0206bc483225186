"""Environments of verifiers, which run their episodes themselves.

task, base URL, key  -->  verifiers: harness, tools, rewards  -->  reward
                          |
                          +--> its interception server --> relay --> our gateway --> model
"""

import asyncio
import json
from collections.abc import Iterator
from math import fsum
from threading import Lock
from typing import Any, Literal

from pydantic import Field

from steadyrl.base.errors import UserError, cause
from steadyrl.base.extras import require_extra
from steadyrl.environments.adapters.verifiers_relay import EpisodeRelay
from steadyrl.environments.agent_access import AgentFailedError, ModelAccess
from steadyrl.environments.dataset.background_loop import BackgroundLoop
from steadyrl.environments.protocol import Episode, Outcome, Split, Task
from steadyrl.environments.settings import EnvironmentSettings
from steadyrl.environments.splits import split_of
from steadyrl.records.message import Message
from steadyrl.records.tool_calls import ToolSettings

CHAT = "steadyrl-verifiers"
"""Id of the harness that chats in this process."""

_MAX_SEARCHED = 100_000
"""Tasks of an endless taskset among which one of a split is searched."""


class VerifiersSettings(EnvironmentSettings):
    """An environment of verifiers 0.4, with its harness, tools and rewards.

    It calls the model by OpenAI's API, and each call becomes a turn of its episode, exactly as it
    was sampled. Tasks are assigned to splits by their content. Needs the extra `serve`.
    """

    name: Literal["verifiers"] = "verifiers"

    taskset: str = Field(pattern=r"^[\w./@-]+$")
    """Id of the taskset: the name of an installed package that exports one."""

    options: dict[str, Any] = Field(default_factory=dict)
    """Settings of the taskset, as `--env.taskset.*` of verifiers."""

    environment: dict[str, Any] = Field(default_factory=dict)
    """Other settings of the environment, as `--env.*` of verifiers: its id, timeouts, and its
    agents."""

    harness: str | None = None
    """Id of the harness of the environment's agent: the program that calls the model. None: the one
    that the taskset's package exports, or else a chat with the task's tools in this process.
    `null` of verifiers does that in a process for each episode."""

    tools: ToolSettings = ToolSettings()

    concurrency: int = Field(64, ge=1)
    """Maximum number of episodes at the same time."""

    timeout: float = Field(600.0, gt=0.0)
    """Maximum seconds of an episode. An episode that takes longer fails."""

    def make(self) -> "VerifiersTasks":
        """The environment.

        Raises:
            UserError: the taskset is not installed, or rejects its settings.
        """
        return VerifiersTasks(self)

    @property
    def runs_agents(self) -> bool:
        """True."""
        return True


class VerifiersTasks:
    """Rewards are the weighted sums of verifiers; each reward and metric is a part."""

    def __init__(self, settings: VerifiersSettings) -> None:
        require_extra("verifiers", "verifiers")
        self._settings = settings
        self._environment = _load(settings)
        self.tools = settings.tools
        self.concurrency = settings.concurrency
        self._bounded = bool(self._environment.taskset.bounded)
        self._found: dict[Split, list[Any]] = {split: [] for split in Split}
        self._tasks: Iterator[Any] | None = iter(self._environment.taskset)
        self._reading = Lock()
        self._loop = BackgroundLoop()
        self._relay = EpisodeRelay()
        self._served: asyncio.Future[None] | None = None

    def task(self, split: Split, index: int) -> Task:
        """Task number `index` of `split`. A taskset with an end starts over after its last one.

        Raises:
            UserError: the taskset has no tasks of this split.
        """
        found = self._read_until(split, index)
        if not found:
            raise UserError(
                f"The taskset {self._settings.taskset} has no task of the {split} split. Give it "
                "more tasks."
            )
        task = found[index % len(found)] if self._bounded else found[index]
        name = f"{self._settings.taskset}/{split}/{task.data.idx}"
        return Task(id=name, prompt=_prompt_of(task.data), payload=task)

    def distinct_tasks(self, split: Split) -> int | None:
        """Number of tasks in `split`; None if the taskset has no end."""
        return len(self._read_until(split, None)) if self._bounded else None

    def start(self, task: Task) -> Episode:
        """Raises UserError: verifiers runs the episode, not the rollout."""
        raise UserError(
            f"Episodes of {self._settings.taskset} are run by verifiers, which only training and "
            "evaluation can ask for."
        )

    async def run(self, task: Task, access: ModelAccess) -> Outcome:
        """Lets verifiers run an episode.

        Raises:
            AgentFailedError: it failed or took too long; the message has verifiers' reason.
        """
        limit = self._settings.timeout
        playing = self._loop.submit(self._play(task.payload, access))
        try:
            async with asyncio.timeout(limit) as running:
                return _outcome_of(await asyncio.wrap_future(playing))
        except TimeoutError as error:
            if not running.expired():
                raise
            raise AgentFailedError(f"the episode took more than {limit:g} s") from error

    def close(self) -> None:
        """Ends episodes and servers that still run."""
        self._loop.close()

    async def _play(self, task: Any, access: ModelAccess) -> Any:
        """One episode of verifiers. Runs in the loop of its own."""
        from verifiers.v1 import ModelContext

        if self._served is None:
            self._served = asyncio.get_running_loop().create_future()
            self._serving = asyncio.ensure_future(self._serve(self._served))
        await asyncio.shield(self._served)
        context = ModelContext(model=access.model, client=await self._relay.client())
        with self._relay.episode(access) as add:
            return await self._environment.run_episode(task, context, on_trace=add)

    async def _serve(self, ready: "asyncio.Future[None]") -> None:
        """Holds the servers of verifiers until the loop is closed."""
        try:
            async with self._environment.serving():
                ready.set_result(None)
                await asyncio.Event().wait()
        except Exception as error:
            if ready.done():
                raise
            ready.set_exception(error)

    def _read_until(self, split: Split, index: int | None) -> list[Any]:
        """Tasks of `split` until number `index`; None: all of them."""
        found = self._found[split]
        with self._reading:
            others = 0
            while self._tasks is not None and (index is None or len(found) <= index):
                task = next(self._tasks, None)
                if task is None:
                    self._tasks = None
                    break
                own = _split_of(task.data)
                self._found[own].append(task)
                others = 0 if own == split else others + 1
                if others > _MAX_SEARCHED:
                    raise UserError(
                        f"None of {others} tasks of {self._settings.taskset} in a row belongs to "
                        f"the {split} split. Check that its tasks differ."
                    )
        return found


def _load(settings: VerifiersSettings) -> Any:
    """The environment of verifiers, whose agent has a harness and a place to run.

    Raises:
        UserError: it cannot be loaded.
    """
    from verifiers.v1 import default_harness_id, env_config_type, load_environment

    given = settings.environment
    try:
        kind = env_config_type(settings.taskset, given.get("id", ""))
        own = default_harness_id(settings.taskset) == settings.taskset
        harness = settings.harness or (settings.taskset if own else CHAT)
        seat = {"harness": {"id": harness}, "runtime": {"type": "subprocess"}}
        agent = (
            {"agent": {**seat, **given.get("agent", {})}} if "agent" in kind.model_fields else {}
        )
        taskset = {"id": settings.taskset, **settings.options}
        return load_environment(kind.model_validate({**given, "taskset": taskset, **agent}))
    except (Exception, SystemExit) as error:  # of a package that verifiers imports
        raise UserError(
            f"verifiers cannot load the taskset {settings.taskset!r}: {cause(error)}. Install its "
            "package, or change environment.options, environment.environment or "
            "environment.harness."
        ) from error


def _outcome_of(episode: Any) -> Outcome:
    """The rewards of an episode.

    Raises:
        AgentFailedError: it failed.
    """
    errors = [*episode.errors, *(error for trace in episode.traces for error in trace.errors)]
    if not episode.ok:
        reason = f"{errors[0].type}: {errors[0].message}" if errors else "it did not finish"
        raise AgentFailedError(f"verifiers could not play the episode: {reason:.500}")
    trained = [trace for trace in episode.traces if trace.agent.trainable]
    parts: dict[str, float] = {}
    for trace in trained:
        parts |= {name: each.score for name, each in trace.rewards.items() if each is not None}
        parts |= {name: value for name, value in trace.metrics.items() if value is not None}
    return Outcome(
        reward=fsum(trace.reward for trace in trained), reward_parts=parts, terminated=True
    )


def _prompt_of(data: Any) -> tuple[Message, ...]:
    """The task's first messages, as far as they are text."""
    system = [Message(role="system", content=data.system_prompt)] if data.system_prompt else []
    return (*system, Message(role="user", content=data.prompt_text))


def _split_of(data: Any) -> Split:
    """The split of a task, by everything but its place."""
    return split_of(json.dumps(data.model_dump(mode="json", exclude={"idx"}), sort_keys=True))
