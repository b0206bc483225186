"""Text from any server with an OpenAI-compatible chat API, for models that only write reflections.

    POST {base_url}/chat/completions   {"model": ..., "messages": [...], "max_tokens": ..., ...}
    200                                {"choices": [{"message": {"content": "..."}, ...}]}

Such a server returns no token ids, log-probabilities or routing, so nothing is trained on its text.
"""

from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import Any

from pydantic import Field

from steadyrl.base.http import HttpClient, ServerError, backoff, bearer_headers, retry
from steadyrl.base.settings import Settings
from steadyrl.engines.protocol import Sampling
from steadyrl.records.message import Message


class ReflectorError(RuntimeError):
    """The server returned no text."""


class OpenAISettings(Settings):
    """Server, model and retries."""

    base_url: str = Field("http://127.0.0.1:8000/v1", pattern=r"^https?://[^@\s]+$")
    """Base URL of the API, including its version."""

    model: str = Field(min_length=1)
    """Name of the model on the server."""

    api_key_variable: str | None = None
    """Environment variable that holds the API key. The key itself is never written to a file."""

    sampling: Sampling = Sampling(temperature=0.5, top_p=0.9)
    """Sampling parameters. The defaults are those of the ERL paper's code."""

    timeout: float = Field(120.0, gt=0.0)
    """Timeout of one request in seconds."""

    retries: int = Field(2, ge=0)
    """Maximum number of retries after a connection error or a busy server."""

    retry_wait: float = Field(1.0, ge=0.0)
    """Seconds before the first retry, doubled for each further one."""


class OpenAIReflector:
    """Requests replies from a server, concurrently if its coroutines are.

    Raises:
        UserError: the environment variable for the key is not set.
    """

    def __init__(self, settings: OpenAISettings) -> None:
        self.settings = settings
        self._url = settings.base_url.rstrip("/") + "/chat/completions"
        headers = bearer_headers(settings.api_key_variable, settings.base_url)
        self._http = HttpClient(headers=headers)

    async def complete(self, conversation: Sequence[Message], *, seed: int) -> str:
        """The model's next turn. Whether `seed` makes it reproducible is up to the server.

        Raises:
            ReflectorError: there was no complete reply, despite retries.
        """
        settings = self.settings
        question = {
            "model": settings.model,
            "messages": [{"role": m.role, "content": m.content} for m in conversation],
            "temperature": settings.sampling.temperature,
            "top_p": settings.sampling.top_p,
            "max_tokens": settings.sampling.max_new_tokens,
            "seed": seed % 2**31,
        }
        if settings.sampling.top_k is not None:
            question["top_k"] = settings.sampling.top_k  # an extension of vLLM and SGLang
        waits = islice(backoff(settings.retry_wait), settings.retries)
        try:
            return await retry(partial(self._ask, question), waits)
        except ServerError as error:
            raise self._failure(error) from error

    async def _ask(self, question: dict[str, Any]) -> str:
        reply = await self._http.post(self._url, question, timeout=self.settings.timeout)
        try:
            return reply_text(reply)
        except ValueError as error:
            raise self._failure(f"sent an invalid reply: {error}") from error

    def _failure(self, reason: object) -> ReflectorError:
        return ReflectorError(f"the reflector at {self.settings.base_url} {reason}")


def reply_text(reply: Any) -> str:
    """Text of the first choice.

    Raises:
        ValueError: the reply has another format, or was truncated by its token budget.
    """
    match reply:
        case {"choices": [{"finish_reason": "length"}, *_]}:
            raise ValueError("it was truncated at max_new_tokens")
        case {"choices": [{"message": {"content": str(content)}}, *_]}:
            return content
        case _:
            shown = repr(reply)
            excerpt = shown if len(shown) <= 80 else shown[:80] + "..."
            raise ValueError(f"expected a choice with message content, got {excerpt}")
