"""Environments behind an OpenEnv server.

task      POST /reset; of a server with tasks, by split and index, otherwise by seed
episode   a session of its own: reset, then a step for each turn of the model
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from threading import Semaphore
from typing import Any, Literal, TypeVar
from urllib.parse import quote

from pydantic import Field

from steadyrl.base.errors import UserError
from steadyrl.base.extras import require_extra
from steadyrl.base.http import HttpClient, ServerError
from steadyrl.environments.adapters.openenv_format import Format, JsonObject
from steadyrl.environments.adapters.sessions import (
    Session,
    SessionEnvironment,
    SessionSettings,
    Step,
    seed_of,
)
from steadyrl.environments.dataset.background_loop import BackgroundLoop
from steadyrl.environments.protocol import Split
from steadyrl.records.message import Message

Result = TypeVar("Result")

_NOT_SUPPORTED = (404, 405, 501)
_REFUSED = "(code: VALIDATION_ERROR)"
_FULL = "(code: CAPACITY_REACHED)"


class OpenEnvSettings(SessionSettings):
    """An environment behind an OpenEnv server.

    A server with tasks is asked for them by split and index; any other is reset with the task's
    seed. The server must begin a task the same way each time.
    """

    name: Literal["openenv"] = "openenv"

    url: str = Field("http://127.0.0.1:8000", pattern=r"^https?://")
    """URL of the server."""

    options: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of each reset."""

    action: str | None = None
    """Field of the action that receives the model's text. None: the only required field of it, if
    that is text; otherwise the model writes the whole action as JSON."""

    observation: str | None = None
    """Field of the observation that the model reads. None: its only field of text; if there is not
    exactly one, the model reads the whole observation as JSON."""

    instruction: str = ""
    """Text before the first observation: the rules. Empty: how to write an action."""

    splits: dict[Split, str] = Field(default_factory=dict)
    """Names of the server's splits, for those that have another name there."""

    sessions: int = Field(1, ge=1)
    """Maximum number of sessions at the same time: `max_concurrent_envs` of the server. Other
    episodes wait."""

    timeout: float = Field(60.0, gt=0.0)
    """Maximum seconds per call. An episode with a slower call fails."""

    def make(self) -> "OpenEnv":
        """The environment.

        Raises:
            UserError: the server cannot be reached, or lacks a field.
        """
        return OpenEnv(self)


class OpenEnv(SessionEnvironment):
    """Rewards are those of the server; a step without one earns 0."""

    def __init__(self, settings: OpenEnvSettings) -> None:
        require_extra("openenv", "openenv")
        super().__init__(settings, "openenv")
        self._settings = settings
        self._url = settings.url.rstrip("/")
        self._seconds = settings.timeout
        self._loop = BackgroundLoop()
        self._http = HttpClient()
        self.slots = Semaphore(settings.sessions)
        try:
            self._format = Format.of(
                self._get("/schema"), action=settings.action, observation=settings.observation
            )
            self._counts = self._read_counts()
        except BaseException:
            self.close()
            raise

    def distinct_tasks(self, split: Split) -> int | None:
        """Number of the server's tasks in `split`; None if it has no tasks of its own."""
        return None if self._counts is None else self._counts.get(self._split_name(split), 0)

    def open(self, split: Split, index: int) -> Session:
        """A session of the server, not yet connected."""
        from openenv.core import GenericEnvClient

        client = GenericEnvClient(
            self._url, connect_timeout_s=self._seconds, message_timeout_s=self._seconds
        )
        return _OpenEnvSession(self, client, self._reset_arguments(split, index), self._format)

    def opening(self, split: Split, index: int) -> str:
        """The first observation, which takes no session of the server."""
        reply = self._post("/reset", self._reset_arguments(split, index))
        return self._format.text_of(reply.get("observation") or {})

    def prompt(self, split: Split, index: int, opening: str) -> tuple[Message, ...]:
        """The instruction and the first observation."""
        instruction = self._settings.instruction or self._format.instruction
        return (Message(role="user", content=f"{instruction}\n\n{opening}"),)

    def wait_for(self, ask: Callable[[], Awaitable[Result]]) -> Result:
        """Result of `ask`, which is called in the loop of all sessions: OpenEnv's client answers at
        once, and not by a coroutine, where no loop runs.
        """

        async def wait() -> Result:
            return await ask()

        answer = self._loop.submit(wait())
        try:
            return answer.result(timeout=self._seconds)
        except TimeoutError:
            answer.cancel()
            raise

    def close(self) -> None:
        """Closes what is still connected."""
        self._loop.close()

    def _reset_arguments(self, split: Split, index: int) -> JsonObject:
        options = self._settings.options
        if self._counts is None:
            return {"seed": seed_of(split, index), **options}
        name = self._split_name(split)
        if not self._counts.get(name):
            raise UserError(
                f"The server at {self._url} has no tasks of the split {name!r}; it has "
                f"{', '.join(self._counts) or 'none'}. Name one in environment.splits, as in "
                f"{{{split}: NAME}}."
            )
        return {"split": name, "index": index % self._counts[name], **options}

    def _split_name(self, split: Split) -> str:
        return self._settings.splits.get(split, str(split))

    def _read_counts(self) -> dict[str, int] | None:
        """Number of tasks by split; None if the server has no tasks of its own."""
        try:
            (name, *_) = self._get("/list_environments")
            place = f"/{quote(name)}"
            splits = [split["name"] for split in self._get(f"{place}/splits")]
            return {
                split: int(self._post(f"{place}/num_tasks", {"split": split})["num_tasks"])
                for split in splits
            }
        except _NoAnswerError as error:
            if error.status not in _NOT_SUPPORTED:
                raise
            return None

    def _get(self, path: str) -> Any:
        return self._ask(path, partial(self._http.get, self._url + path, timeout=self._seconds))

    def _post(self, path: str, question: JsonObject) -> Any:
        return self._ask(
            path, partial(self._http.post, self._url + path, question, timeout=self._seconds)
        )

    def _ask(self, path: str, request: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return self.wait_for(request)
        except ServerError as error:
            raise _NoAnswerError(
                f"The OpenEnv server at {self._url} {error} ({path}). Check environment.url.",
                error.status,
            ) from error


class _NoAnswerError(UserError):
    def __init__(self, message: str, status: int | None) -> None:
        super().__init__(message)
        self.status = status


class _OpenEnvSession:
    def __init__(
        self, environment: OpenEnv, client: Any, arguments: JsonObject, form: Format
    ) -> None:
        self._environment = environment
        self._client = client
        self._arguments = arguments
        self._format = form

    def reset(self) -> str:
        """The first observation."""
        result = self._environment.wait_for(self._begin)
        return self._format.text_of(result.observation)

    async def _begin(self) -> Any:
        """Resets; again if the server still ends the session before this one."""
        while True:
            try:
                return await self._client.reset(**self._arguments)
            except RuntimeError as error:
                if _FULL not in str(error):
                    raise
                await self._client.close()
                await asyncio.sleep(0.1)

    def step(self, text: str, *, last: bool) -> Step:
        """Answer to an action. One that the server does not accept changes nothing."""
        try:
            action = self._format.action_of(text)
        except (ValueError, RecursionError):
            return _invalid("write a JSON object")
        try:
            result = self._environment.wait_for(partial(self._client.step, action))
        except RuntimeError as error:
            if _REFUSED not in str(error):
                raise
            return _invalid(str(error).removeprefix("Server error: ").replace(_REFUSED, "").strip())
        return Step(
            observations=(self._format.text_of(result.observation),),
            reward=0.0 if result.reward is None else result.reward,
            done=bool(result.done),
        )

    def close(self) -> None:
        """Ends the session."""
        self._environment.wait_for(self._client.close)


def _invalid(reason: str) -> Step:
    said = f"This is not an action: {reason}."
    return Step(observations=(said,), reward=0.0, done=False, feedback=said)
