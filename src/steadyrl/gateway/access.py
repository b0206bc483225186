"""Keys and sessions of requests."""

import hmac
import re
from dataclasses import dataclass, field

from starlette.requests import Request

from steadyrl.gateway.errors import ApiError
from steadyrl.gateway.gateway import Gateway
from steadyrl.gateway.limits import LimitSettings
from steadyrl.gateway.sessions import Session

SESSION_HEADER = "x-steadyrl-session"
_SESSION_ID = re.compile(r"[\w.-]{1,128}")


@dataclass(slots=True, kw_only=True)
class SessionAccess:
    """Who may do what."""

    gateway: Gateway
    limits: LimitSettings = field(default_factory=LimitSettings)

    api_key: str | None = None
    """Key of the server; None: anyone may use it."""

    keys: dict[str, str] = field(default_factory=dict)
    """Names of sessions by their own key, which opens nothing but that session."""

    opens_sessions: bool = True
    """Whether clients may open sessions."""

    forgets_oldest: bool = False
    """Whether a new session takes the place of the oldest, once there are `max_sessions`. For
    servers that also store them."""

    def authorize(self, request: Request) -> Session | None:
        """The session of the request's key; None: the key is the server's.

        Raises:
            ApiError: the key is neither.
        """
        given = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if (name := self.keys.get(given)) is not None:
            session = self.gateway.sessions.get(name)
            if session is None:
                raise ApiError("The session of this key is over.", status=404, code="session_over")
            return session
        if self.api_key is None or hmac.compare_digest(given.encode(), self.api_key.encode()):
            return None
        raise ApiError(
            "The API key is wrong. Send the key of this server as 'Authorization: Bearer KEY'.",
            status=401,
            code="invalid_api_key",
        )

    def session(self, request: Request) -> Session | None:
        """The session of a request, opened if it is new; None: the request has no session.

        Raises:
            ApiError: the key is wrong, or the session cannot be opened.
        """
        own = self.authorize(request)
        name = request.path_params.get("session") or request.headers.get(SESSION_HEADER)
        if own is not None:
            if name not in (None, own.id):
                raise ApiError("The key is of another session.", status=401, code="invalid_api_key")
            return own
        if name is None:
            return None
        sessions = self.gateway.sessions
        if name not in sessions:
            self._check_new(name)
            sessions[name] = Session(id=name, rules=self.gateway.rules)
        session = sessions[name]
        if session.num_tokens >= self.limits.max_session_tokens:
            raise ApiError(
                f"The session {name!r} holds {session.num_tokens} tokens, and may hold "
                f"{self.limits.max_session_tokens}. Begin another.",
                code="session_full",
            )
        return session

    def _check_new(self, name: str) -> None:
        """Returns if a session called `name` can be opened.

        Raises:
            ApiError: it cannot.
        """
        if not self.opens_sessions:
            raise ApiError(f"There is no session {name!r}.", status=404, code="no_session")
        if not _SESSION_ID.fullmatch(name):
            raise ApiError(
                f"The session is called {name!r:.80}. Use up to 128 letters, digits, '_', '-' and "
                "'.'."
            )
        sessions = self.gateway.sessions
        if len(sessions) >= self.limits.max_sessions and self.forgets_oldest:
            del sessions[next(iter(sessions))]
        if len(sessions) >= self.limits.max_sessions:
            raise ApiError(
                f"There are {self.limits.max_sessions} sessions already. Delete one first.",
                status=429,
                code="too_many_sessions",
            )

    def known_session(self, request: Request) -> Session:
        """The session in the path.

        Raises:
            ApiError: the key is wrong, or there is no such session.
        """
        own = self.authorize(request)
        name = request.path_params["session"]
        session = self.gateway.sessions.get(name)
        if session is None or (own is not None and own is not session):
            raise ApiError(f"There is no session {name!r}.", status=404, code="no_session")
        return session
