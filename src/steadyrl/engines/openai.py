"""Text from any server that speaks OpenAI's chat protocol, for models that only write reflections.

    POST {base_url}/chat/completions   {"model": ..., "messages": [...], "max_tokens": ..., ...}
    200                                {"choices": [{"message": {"content": "..."}, ...}]}

Such a server gives no tokens, probabilities or routing that could be learned from.
"""

import asyncio
import os
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from steadyrl.base.errors import UserError
from steadyrl.base.http import ServerError, post_json
from steadyrl.base.settings import Settings
from steadyrl.engines.protocol import Sampling
from steadyrl.records.message import Message


class ReflectorError(RuntimeError):
    """No text could be had from the server."""


class OpenAISettings(Settings):
    """Which server, which of its models, and how patient to be."""

    base_url: str = Field("http://127.0.0.1:8000/v1", pattern=r"^https?://[^@\s]+$")
    """Address of the server's API, up to and including its version."""

    model: str = Field(min_length=1)
    """Name of the model, as the server knows it."""

    api_key_variable: str | None = None
    """Environment variable that holds the key. The key itself is never written anywhere."""

    sampling: Sampling = Sampling(temperature=0.5, top_p=0.9)
    """How the server draws tokens. The values are those of the ERL paper's code."""

    timeout: float = Field(120.0, gt=0.0)
    """Seconds that one reply may take."""

    retries: int = Field(2, ge=0)
    """Further tries after one that failed on the way or on a busy server."""

    retry_wait: float = Field(1.0, ge=0.0)
    """Seconds before the second try; they double with each further one."""


class OpenAIReflector:
    """Asks a server for replies, several at once where that is wanted.

    Raises:
        UserError: the variable that is to hold the key is not set.
    """

    def __init__(self, settings: OpenAISettings) -> None:
        self.settings = settings
        self._url = settings.base_url.rstrip("/") + "/chat/completions"
        self._headers: dict[str, str] = {}
        if settings.api_key_variable is not None:
            key = os.environ.get(settings.api_key_variable)
            if not key:
                raise UserError(
                    f"The environment variable {settings.api_key_variable} is to hold the key for "
                    f"{settings.base_url}, but it is not set. Set it, or leave api_key_variable "
                    "out for a server without a key."
                )
            self._headers["Authorization"] = f"Bearer {key}"

    async def complete(self, conversation: Sequence[Message], *, seed: int) -> str:
        """The model's next turn. `seed` is passed on; what it is worth is up to the server.

        Raises:
            ReflectorError: no whole reply could be had, even by trying again.
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
            question["top_k"] = settings.sampling.top_k  # not OpenAI's, but vLLM's and SGLang's
        for attempt in range(settings.retries):
            try:
                return await self._ask(question)
            except ServerError as error:
                if not error.passing:
                    raise self._failure(error) from error
                await asyncio.sleep(settings.retry_wait * 2**attempt)
        try:
            return await self._ask(question)
        except ServerError as error:
            raise self._failure(error) from error

    async def _ask(self, question: dict[str, Any]) -> str:
        timeout = self.settings.timeout
        reply = await post_json(self._url, question, timeout=timeout, headers=self._headers)
        try:
            return reply_text(reply)
        except ValueError as error:
            raise self._failure(f"answered in another format: {error}") from error

    def _failure(self, reason: object) -> ReflectorError:
        return ReflectorError(f"the reflector at {self.settings.base_url} {reason}")


def reply_text(reply: Any) -> str:
    """What the model wrote.

    Raises:
        ValueError: the reply has another format, or was cut off by its token budget.
    """
    match reply:
        case {"choices": [{"finish_reason": "length"}, *_]}:
            raise ValueError("the token budget was spent before the end")
        case {"choices": [{"message": {"content": str(content)}}, *_]}:
            return content
        case _:
            shown = repr(reply)
            excerpt = shown if len(shown) <= 80 else shown[:80] + "..."
            raise ValueError(f"expected a choice with a message's content, got {excerpt}")
