"""Text from any server that speaks OpenAI's chat protocol, for models that only write reflections.

    POST {base_url}/chat/completions   {"model": ..., "messages": [...], "max_tokens": ..., ...}
    200                                {"choices": [{"message": {"content": "..."}, ...}]}

Such a server gives no tokens, probabilities or routing that could be learned from.
"""

import json
import os
import time
from collections.abc import Sequence
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from pydantic import Field

from steadyrl.base.errors import UserError
from steadyrl.base.http_reply import read_reply, within
from steadyrl.base.settings import Settings
from steadyrl.engines.protocol import Sampling
from steadyrl.records.message import Message

_WORTH_ANOTHER_TRY = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


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
    """Asks a server for one reply at a time. Several threads may ask at once.

    Raises:
        UserError: the variable that is to hold the key is not set.
    """

    def __init__(self, settings: OpenAISettings) -> None:
        self.settings = settings
        self._url = settings.base_url.rstrip("/") + "/chat/completions"
        self._headers = {"Content-Type": "application/json"}
        # A redirection would carry the key to another host.
        self._opener = build_opener(_NoRedirection)
        if settings.api_key_variable is not None:
            key = os.environ.get(settings.api_key_variable)
            if not key:
                raise UserError(
                    f"The environment variable {settings.api_key_variable} is to hold the key for "
                    f"{settings.base_url}, but it is not set. Set it, or leave api_key_variable "
                    "out for a server without a key."
                )
            self._headers["Authorization"] = f"Bearer {key}"

    def complete(self, conversation: Sequence[Message], *, seed: int) -> str:
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
        body = json.dumps(question).encode("utf-8")
        for attempt in range(settings.retries):
            try:
                return self._ask(body)
            except _PassingTroubleError:
                time.sleep(settings.retry_wait * 2**attempt)
        return self._ask(body)

    def _ask(self, body: bytes) -> str:
        try:
            return reply_text(json.loads(self._reply(body)))
        except (ValueError, RecursionError) as error:
            raise ReflectorError(self._says(f"answered in another format: {error}")) from error

    def _reply(self, body: bytes) -> bytes:
        timeout = self.settings.timeout
        request = Request(self._url, data=body, headers=self._headers, method="POST")

        def ask() -> bytes:
            with self._opener.open(request, timeout=timeout) as response:
                return read_reply(response, time.monotonic() + timeout)

        try:
            return within(timeout, ask)
        except HTTPError as error:
            error.close()
            trouble = _PassingTroubleError if error.code in _WORTH_ANOTHER_TRY else ReflectorError
            raise trouble(self._says(f"answered with status {error.code}")) from error
        except TimeoutError as error:
            late = f"gave no whole answer within {timeout:g} s"
            raise _PassingTroubleError(self._says(late)) from error
        except URLError as error:
            reason = f"cannot be reached ({error.reason})"
            raise _PassingTroubleError(self._says(reason)) from error
        except (OSError, HTTPException) as error:
            broken = f"broke off ({type(error).__name__}: {error})"
            raise _PassingTroubleError(self._says(broken)) from error

    def _says(self, what: str) -> str:
        return f"the reflector at {self.settings.base_url} {what}"


class _PassingTroubleError(ReflectorError):
    """What may be over in a moment."""


class _NoRedirection(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


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
