"""Requests to one server, and what a user reads if it does not answer as expected."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from steadyrl.base.errors import UserError
from steadyrl.base.http import HttpClient, ServerError, bearer_headers

LARGEST_REPLY = 2**28
"""Maximum size of a reply in bytes: routes of a long answer of a large model take 20 MB."""

KEY_NEEDED = (401, 403)
"""Status codes of a server that expects another API key, or any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerClient:
    """Requests to one server by their paths.

    Example:
        ServerClient(url="http://127.0.0.1:8000", http=HttpClient(), timeout=600.0)
    """

    url: str
    """Address without a slash at its end."""

    http: HttpClient
    timeout: float
    """Seconds for one reply."""

    @classmethod
    def of(cls, url: str, api_key_variable: str | None, timeout: float) -> "ServerClient":
        """A client with the API key that an environment variable holds, if one is named.

        Raises:
            UserError: the variable is not set.
        """
        url = url.rstrip("/")
        headers = bearer_headers(api_key_variable, url)
        http = HttpClient(headers=headers, largest_reply=LARGEST_REPLY)
        return cls(url=url, http=http, timeout=timeout)

    async def get(self, path: str) -> Any:
        """The JSON reply to a GET request.

        Raises:
            ServerError: there is none.
        """
        return await self.http.get(self.url + path, timeout=self.timeout)

    async def post(self, path: str, question: Any = None) -> Any:
        """The JSON reply to a POST request; see `get`."""
        return await self.http.post(self.url + path, question, timeout=self.timeout)

    async def command(self, path: str, question: Any = None) -> None:
        """Posts `question` and ignores the content of the reply; see `get`."""
        await self.http.command(self.url + path, question, timeout=self.timeout)


@contextmanager
def describing_itself(
    url: str, software: str, version: str, remedies: Mapping[int, str] | None = None
) -> Iterator[None]:
    """Turns failures to read a server's description of itself into a sentence for the user.

    Args:
        software: Name of the software that is expected at `url`.
        version: Oldest version whose description is understood.
        remedies: What to do about a status code, where that is special to the software.

    Raises:
        UserError: the server cannot be reached, refuses the request, or is something else.
    """
    known = dict.fromkeys(KEY_NEEDED, "Set engine.api_key_variable") | dict(remedies or {})
    try:
        yield
    except ServerError as error:
        remedy = known.get(error.status or 0, "Start it, or correct engine.url")
        raise UserError(f"The {software} server at {url} {error}. {remedy}.") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"The server at {url} does not describe itself as {software} {version} does. Use "
            f"{software} {version} or newer, or correct engine.url."
        ) from error
