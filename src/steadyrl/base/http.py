"""HTTP requests with limits on time and size, and retries with exponential back-off."""

import asyncio
import json
import math
import os
import random
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx2 as httpx

from steadyrl.base.errors import UserError

Reply = TypeVar("Reply")

LARGEST_REPLY = 2**24
"""Default maximum size of a reply in bytes."""

PASSING_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""Status codes after which a retry may succeed."""

_LARGEST_DETAIL = 2**16
_SHOWN_DETAIL = 300
_NO_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=None)


class ServerError(RuntimeError):
    """A request without a usable reply. The message continues the name of the server.

    Attributes:
        passing: Whether a retry may succeed.
        status: Status code of the reply; None: there was no reply.
    """

    def __init__(self, reason: str, *, passing: bool, status: int | None = None) -> None:
        super().__init__(reason)
        self.passing = passing
        self.status = status


class HttpClient:
    """JSON requests to HTTP servers. Concurrent requests share a pool of connections.

    The pool is closed when no request is under way, so that nothing outlives an event loop.

    Args:
        headers: Sent with every request.
        largest_reply: Maximum size of a reply in bytes; None: `LARGEST_REPLY`.
    """

    def __init__(
        self, *, headers: Mapping[str, str] | None = None, largest_reply: int | None = None
    ) -> None:
        self._headers = dict(headers or {})
        self._largest_reply = largest_reply
        self._pool: httpx.AsyncClient | None = None
        self._requests = 0
        self._secure: ssl.SSLContext | None = None

    async def post(self, url: str, question: Any = None, *, timeout: float) -> Any:
        """Posts `question` as JSON and returns the JSON reply.

        Redirects are not followed: they would send the headers to another host.

        Args:
            timeout: Seconds for the whole request, from name resolution to the last byte.

        Raises:
            ServerError: there is no reply in time, or it is not JSON.
        """
        return _parse(await self._request("POST", url, question, timeout))

    async def command(self, url: str, question: Any = None, *, timeout: float) -> None:
        """Posts `question` and ignores the content of the reply; see `post`."""
        await self._request("POST", url, question, timeout)

    async def get(self, url: str, *, timeout: float) -> Any:
        """Returns the JSON reply to a GET request; see `post`."""
        return _parse(await self._request("GET", url, None, timeout))

    async def _request(self, method: str, url: str, question: Any, timeout: float) -> bytes:
        try:
            async with asyncio.timeout(timeout), self._connections(url) as pool:
                return await self._exchange(pool, method, url, question)
        except TimeoutError as error:
            raise ServerError(f"did not reply within {timeout:g} s", passing=True) from error
        except (httpx.ConnectError, httpx.InvalidURL, httpx.ProxyError) as error:
            raise ServerError(f"cannot be reached ({_cause(error)})", passing=True) from error
        except (httpx.HTTPError, OSError) as error:
            reason = f"did not complete its reply ({type(error).__name__}: {_cause(error)})"
            raise ServerError(reason, passing=True) from error

    @asynccontextmanager
    async def _connections(self, url: str) -> AsyncIterator[httpx.AsyncClient]:
        """The pool, which the last request that uses it closes."""
        if self._pool is None:
            self._pool = httpx.AsyncClient(
                timeout=None, limits=_NO_LIMITS, verify=self._verify(url)
            )
        pool, self._requests = self._pool, self._requests + 1
        try:
            yield pool
        finally:
            self._requests -= 1
            if self._requests == 0:
                self._pool = None
                await pool.aclose()

    def _verify(self, url: str) -> ssl.SSLContext | bool:
        """TLS settings. Certificates are loaded once: that takes longer than most requests."""
        if not url.startswith("https:"):
            return False
        if self._secure is None:
            self._secure = httpx.create_ssl_context()
        return self._secure

    async def _exchange(
        self, pool: httpx.AsyncClient, method: str, url: str, question: Any
    ) -> bytes:
        headers, content = self._headers, None
        if question is not None:
            headers = {"Content-Type": "application/json", **headers}
            content = json.dumps(question).encode("utf-8")
        async with pool.stream(method, url, content=content, headers=headers) as response:
            if not response.is_success:
                body = await _read(response, _LARGEST_DETAIL)
                raise self._refusal(response.status_code, body or b"")
            largest = LARGEST_REPLY if self._largest_reply is None else self._largest_reply
            body = await _read(response, largest)
            if body is None:
                raise ServerError(f"sent a reply of more than {largest} bytes", passing=False)
            return body

    def _refusal(self, status: int, body: bytes) -> ServerError:
        detail = _detail(body)
        for value in self._headers.values():  # a server may repeat the key that it refuses
            detail = detail.replace(value.removeprefix("Bearer "), "***")
        reason = f"replied with status {status}" + (f": {detail}" if detail else "")
        return ServerError(reason, passing=status in PASSING_STATUS, status=status)


def bearer_headers(variable: str | None, url: str) -> dict[str, str]:
    """The header with the API key that the environment variable `variable` holds, if any.

    Raises:
        UserError: the variable is not set.
    """
    if variable is None:
        return {}
    key = os.environ.get(variable)
    if not key:
        raise UserError(
            f"The environment variable {variable}, which holds the key for {url}, is not set. Set "
            "it, or omit api_key_variable if the server needs no key."
        )
    return {"Authorization": f"Bearer {key}"}


async def post_json(
    url: str, question: Any, *, timeout: float, headers: Mapping[str, str] | None = None
) -> Any:
    """Posts `question` as JSON to the server at `url` and returns its JSON reply.

    Raises:
        ServerError: there is no reply within `timeout` seconds, or it is not JSON.
    """
    return await HttpClient(headers=headers).post(url, question, timeout=timeout)


async def retry(attempt: Callable[[], Awaitable[Reply]], waits: Iterator[float]) -> Reply:
    """Awaits `attempt()` until it succeeds, and waits `waits` seconds in between.

    Raises:
        ServerError: it failed in a way that a retry cannot fix, or `waits` is exhausted.
    """
    while True:
        try:
            return await attempt()
        except ServerError as error:
            wait = next(waits, None) if error.passing else None
            if wait is None:
                raise
        await asyncio.sleep(wait)


def backoff(
    first: float, *, longest: float = math.inf, seconds: float = math.inf
) -> Iterator[float]:
    """Yields waiting times that double from `first` to `longest`, for `seconds` in all.

    The time is counted from the first failure, which is when the first value is taken. Each value
    is shortened at random by up to a half, so that many clients do not retry at the same moment.
    """
    deadline = time.monotonic() + seconds
    wait = first
    while (left := deadline - time.monotonic()) > 0:
        yield min(wait * random.uniform(0.5, 1.0), left)
        wait = min(wait * 2, longest)


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ServerError(f"sent an invalid reply: {error}", passing=False) from error


async def _read(response: httpx.Response, largest: int) -> bytes | None:
    """The body; None if it has more than `largest` bytes."""
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > largest:
            return None
    return bytes(body)


def _detail(body: bytes) -> str:
    """The server's own words about a failure, on one line."""
    text = body.decode("utf-8", errors="replace")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = text
    match found:
        case {"error": {"message": str(message)}} | {"error": str(message)}:
            text = message
        case {"message": str(message)} | {"detail": str(message)}:
            text = message
        case {}:
            text = ""
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_DETAIL else line[:_SHOWN_DETAIL] + "..."


def _cause(error: BaseException) -> str:
    """Message of the innermost exception that led to `error`."""
    while isinstance(error.__cause__ or error.__context__, Exception):
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return str(error) or type(error).__name__
