"""Limits of a server."""

from pydantic import Field

from steadyrl.base.settings import Settings


class LimitSettings(Settings):
    """What clients may ask of a server at most."""

    max_body: int = Field(4096, ge=1)
    """Maximum KiB of a request."""

    max_requests: int = Field(256, ge=1)
    """Maximum number of requests that are answered at the same time. Further ones are refused with
    status 429, after which clients try again."""

    max_sessions: int = Field(1024, ge=1)
    """Maximum number of sessions that are held. Further ones are refused until one is deleted."""

    max_session_tokens: int = Field(1 << 20, ge=1)
    """Maximum number of recorded tokens in a session."""

    timeout: float = Field(600.0, gt=0.0)
    """Maximum seconds of an answer."""
