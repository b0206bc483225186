"""Reading requests, and noticing that a client has gone."""

import asyncio
import json
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from steadyrl.gateway.errors import ApiError
from steadyrl.gateway.limits import LimitSettings

Result = TypeVar("Result")


async def read_json(request: Request, limits: LimitSettings) -> Any:
    """The JSON value in the body of a request.

    Raises:
        ApiError: it is too large or not JSON.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(f"The content type is {kind!r:.80}. Send application/json.", status=415)
    limit, received = limits.max_body << 10, bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > limit:
            raise ApiError(
                f"The body has more than {limits.max_body} KiB. Send less, or start the "
                "server with a larger --limits.max-body.",
                status=413,
            )
    try:
        return json.loads(received)
    except (ValueError, RecursionError) as error:
        raise ApiError(f"The body is not JSON: {error}.", code="invalid_json") from error


async def unless_gone(request: Request, answering: Coroutine[Any, Any, Result]) -> Result:
    """The result of `answering`, which is canceled if the client disconnects.

    Raises:
        ClientDisconnect: it has.
    """
    answer = asyncio.ensure_future(answering)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        raise ClientDisconnect
    finally:
        for task in (answer, gone):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait((answer, gone))
        if not answer.cancelled():
            answer.exception()  # retrieved, so that asyncio does not log it


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
