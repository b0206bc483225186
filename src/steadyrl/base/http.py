"""Requests to HTTP servers, within a time and a size."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import httpx2 as httpx

LARGEST_REPLY = 2**24
"""Bytes."""

PASSING_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed."""


class ServerError(RuntimeError):
    """A request without a usable reply. The message goes on from a name of the server.

    Attributes:
        passing: Whether the same request may succeed later.
    """

    def __init__(self, reason: str, *, passing: bool) -> None:
        super().__init__(reason)
        self.passing = passing


async def post_json(
    url: str, question: Any, *, timeout: float, headers: Mapping[str, str] | None = None
) -> Any:
    """The JSON value with which the server at `url` answers `question`.

    Redirections are not followed: they would carry headers to another host.

    Args:
        timeout: Seconds for all of it, from the lookup of the name to the last byte.

    Raises:
        ServerError: there is none in time, or it is not JSON; the message says why.
    """
    sent = {"Content-Type": "application/json", **(headers or {})}
    try:
        async with asyncio.timeout(timeout):
            body = await _post(url, json.dumps(question).encode("utf-8"), sent)
    except TimeoutError as error:
        late = f"gave no whole answer within {timeout:g} s"
        raise ServerError(late, passing=True) from error
    except (httpx.ConnectError, httpx.InvalidURL, httpx.ProxyError) as error:
        raise ServerError(f"cannot be reached ({_cause(error)})", passing=True) from error
    except (httpx.HTTPError, OSError) as error:
        broken = f"broke off ({type(error).__name__}: {_cause(error)})"
        raise ServerError(broken, passing=True) from error
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ServerError(f"answered in another format: {error}", passing=False) from error


async def _post(url: str, content: bytes, headers: Mapping[str, str]) -> bytes:
    secure = url.startswith("https:")  # without it, no certificates are loaded
    async with (
        httpx.AsyncClient(timeout=None, verify=secure) as client,
        client.stream("POST", url, content=content, headers=dict(headers)) as response,
    ):
        if not response.is_success:
            status = response.status_code
            passing = status in PASSING_STATUS
            raise ServerError(f"answered with status {status}", passing=passing)
        body = bytearray()
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > LARGEST_REPLY:
                raise OSError(f"more than {LARGEST_REPLY} bytes")
        return bytes(body)


def _cause(error: BaseException) -> str:
    """The innermost of the exceptions that led to `error`."""
    while isinstance(error.__cause__ or error.__context__, Exception):
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return str(error) or type(error).__name__
