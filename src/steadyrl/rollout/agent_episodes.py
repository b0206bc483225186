"""Episodes of agent programs: the gateway answers their calls, and sessions become trajectories.

The server lives as long as the rollout, in the event loop that steps the engine; the programs run
in other threads.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from transformers import PreTrainedTokenizerBase

from steadyrl.base.concurrency import concurrently, is_being_cancelled
from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.engines.protocol import Engine, Sampling
from steadyrl.environments.agent_access import AgentFailedError, ModelAccess
from steadyrl.environments.agents import RunsAgents
from steadyrl.environments.protocol import Outcome, Task
from steadyrl.gateway.gateway import Gateway
from steadyrl.gateway.limits import LimitSettings
from steadyrl.gateway.packages import require_server
from steadyrl.gateway.sessions import Session, SessionRules
from steadyrl.records.completion import Completion
from steadyrl.records.trajectory import Group, Trajectory
from steadyrl.records.truncation import ENVIRONMENT_FAILED
from steadyrl.rollout.routes import drop_repeated_routes
from steadyrl.rollout.seeds import derive_seed
from steadyrl.rollout.tasks import FailedTask, failure_reason

if TYPE_CHECKING:
    from steadyrl.gateway.access import SessionAccess

MODEL = "policy"
"""Name of the model for agent programs."""


async def play_agents(
    environment: RunsAgents,
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[Task],
    *,
    group_size: int,
    sampling: Sampling,
    seed: int,
    max_calls: int,
    progress: Progress = NO_PROGRESS,
) -> list[Group]:
    """Runs the program `group_size` times on each task, and returns the groups in order.

    An episode fails, with the reason, if its program raises, runs too long or gives no reward. It
    is truncated, without reward, if a program raises after its calls or its positions are used up.
    The tokens of a call depend on `seed`, on the indices of group and episode and on the number of
    the call.

    Raises:
        UserError: the server's packages are missing. Exceptions of the engine are passed through.
    """
    require_server()
    from steadyrl.gateway.app import GatewayApp
    from steadyrl.gateway.server import serving

    total = len(tasks) * group_size
    progress.advance("episodes", 0, total)
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    gateway = Gateway(
        engine=engine,
        tokenizer=tokenizer,
        vocabulary_size=len(tokenizer),
        model=MODEL,
        tools=environment.tools,
        on_failure=partial(_fail, failed),
    )
    access = _access_for_episodes(gateway, total)
    rollout = _AgentRollout(
        environment=environment,
        sessions=gateway.sessions,
        keys=access.keys,
        rules=partial(_rules, sampling, max_calls, seed),
        slots=asyncio.Semaphore(environment.concurrency),
        failed=failed,
        progress=progress,
        total=total,
    )
    app = GatewayApp(access=access).starlette()
    async with serving(app, host="127.0.0.1", port=0) as rollout.url:
        try:
            return await rollout.groups(tasks, group_size)
        finally:
            failed.cancel()


def _access_for_episodes(gateway: Gateway, episodes: int) -> "SessionAccess":
    """Access to sessions that the rollout opens, with room for a request of each episode."""
    from steadyrl.gateway.access import SessionAccess

    return SessionAccess(
        gateway=gateway,
        limits=LimitSettings(max_requests=max(LimitSettings().max_requests, episodes)),
        api_key=secrets.token_urlsafe(),
        opens_sessions=False,
    )


@dataclass(slots=True, kw_only=True)
class _AgentRollout:
    """Shared state of the episodes of a rollout."""

    environment: RunsAgents
    sessions: dict[str, Session]
    """Running sessions of the gateway by name."""

    keys: dict[str, str]
    """Names of sessions by their key."""

    rules: Callable[[int], SessionRules]
    slots: asyncio.Semaphore
    failed: asyncio.Future[None]
    """Gets the exception of the engine, if it fails."""

    progress: Progress
    total: int
    over: int = 0
    url: str = ""

    async def groups(self, tasks: Sequence[Task], group_size: int) -> list[Group]:
        """The groups of all tasks."""
        trajectories = await concurrently(
            self.episode(task, number * group_size + place)
            for number, task in enumerate(tasks)
            for place in range(group_size)
        )
        return [
            Group(
                task_id=task.id,
                trajectories=tuple(trajectories[number * group_size : (number + 1) * group_size]),
            )
            for number, task in enumerate(tasks)
        ]

    async def episode(self, task: Task, number: int) -> Trajectory:
        """Runs the program once."""
        async with self.slots:
            with self._session(number) as (session, access):
                outcome, reason = await self._run(task, session, access)
        self.over += 1
        self.progress.advance("episodes", self.over, self.total)
        return trajectory_of(task, session, outcome, reason)

    @contextmanager
    def _session(self, number: int) -> Iterator[tuple[Session, ModelAccess]]:
        """A session that is closed at the end, whatever the program still does."""
        name, key = f"episode-{number}", secrets.token_urlsafe()
        session = Session(id=name, rules=self.rules(number))
        self.sessions[name] = session
        self.keys[key] = name
        base = f"{self.url}/sessions/{name}/v1"
        try:
            yield session, ModelAccess(base_url=base, api_key=key, model=MODEL)
        finally:
            session.closed = True
            del self.sessions[name]

    async def _run(
        self, task: Task, session: Session, access: ModelAccess
    ) -> tuple[Outcome | None, str]:
        """The program's outcome, or None and why there is none."""
        if isinstance(task, FailedTask):
            return None, f"{ENVIRONMENT_FAILED}: {task.failure}"
        try:
            outcome = await self._unless_engine_fails(task, access)
            if outcome is None and session.reward is not None:
                outcome = Outcome(reward=session.reward, terminated=True)
            if outcome is None:
                raise AgentFailedError(
                    "the program neither returned a reward nor posted one to sessions/ID/reward. "
                    "Return a number; a command writes it as the last line of its output"
                )
            if not session.turns:
                raise AgentFailedError("the program never called the model")
            return outcome, ""
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # an agent program is foreign code: its failure is data
            if is_being_cancelled(error) or self._engine_failed:
                raise
            return None, session.ran_out or failure_reason(error)

    async def _unless_engine_fails(self, task: Task, access: ModelAccess) -> Outcome | None:
        """What the program returns, unless the engine raises first."""
        program = asyncio.ensure_future(self.environment.run(task, access))
        try:
            await asyncio.wait((program, self.failed), return_when=asyncio.FIRST_COMPLETED)
            if self._engine_failed:
                self.failed.result()
            return program.result()
        finally:
            program.cancel()

    @property
    def _engine_failed(self) -> bool:
        return self.failed.done()


def trajectory_of(task: Task, session: Session, outcome: Outcome | None, reason: str) -> Trajectory:
    """The trajectory of a session: its turns, row after row.

    Args:
        outcome: What the program returned; None: it failed.
        reason: Why it failed.
    """
    completions: list[Completion] = []
    for row in session.rows:
        for place, turn in enumerate(row):
            kept = turn.completion
            completions.append(drop_repeated_routes(kept, completions[-1]) if place else kept)
    said = [message for row in session.rows for message in row[-1].messages]
    return Trajectory(
        task_id=task.id,
        messages=tuple(said or task.prompt),
        completions=tuple(completions),
        reward=0.0 if outcome is None else outcome.reward,
        reward_parts={} if outcome is None else outcome.reward_parts,
        feedback="" if outcome is None else outcome.feedback,
        terminated=outcome is not None,
        truncated=outcome is None,
        truncation_reason=reason,
    )


def _rules(sampling: Sampling, max_calls: int, seed: int, episode: int) -> SessionRules:
    """The rules of an episode's session."""
    return SessionRules(
        sampling=sampling,
        trains=True,
        max_calls=max_calls,
        seed_of=lambda call: derive_seed(seed, episode, call),
    )


def _fail(failed: asyncio.Future[None], error: Exception) -> None:
    if not failed.done():
        failed.set_exception(error)
