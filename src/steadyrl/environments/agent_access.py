"""What agent programs receive, and how they fail."""

from dataclasses import dataclass
from typing import Any


class AgentFailedError(RuntimeError):
    """An agent program ran too long, ended with an error, returned no reward, or made no call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentTask:
    """A task as an agent program receives it.

    Example:
        AgentTask(id="sums/0", messages=[{"role": "user", "content": "3+4="}], data=7)
    """

    id: str
    messages: list[dict[str, str]]
    """The prompt, in the form of OpenAI's API."""

    data: Any
    """The task's payload."""

    tools: list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAccess:
    """How an agent program reaches the policy.

    Example:
        AsyncOpenAI(base_url=access.base_url, api_key=access.api_key)
    """

    base_url: str
    api_key: str
    """Key of this episode: calls with it are its turns."""

    model: str
    """Name of the model."""
