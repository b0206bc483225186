"""What a gateway hands to a durable store: recorded turns, feedback and consent.

POST /sessions/ID/feedback
    {"thumb": "up"}, {"number": 0.5}, {"text": "the capital is Bern"}, {"consent": true}
    on the last answer of the session, or on another one by its number: {"turn": 0, ...}

Consent may also be given with a call: by the header x-steadyrl-consent, or as
{"metadata": {"consent": "true"}} in the body.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from steadyrl.base.text import well_formed
from steadyrl.environments.protocol import MAX_REWARD
from steadyrl.gateway.errors import ApiError
from steadyrl.gateway.requests import validated
from steadyrl.gateway.sessions import Session, Turn

CONSENT_HEADER = "x-steadyrl-consent"
_CONSENT = {"true": True, "false": False}

FeedbackKind = Literal["number", "thumb", "text", "later_message"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What a user says about an answer.

    Example:
        Feedback(kind="thumb", value=1.0)
    """

    kind: FeedbackKind

    value: float | None = None
    """The number, or 1 and 0 for a thumb up and down; None for texts."""

    text: str = ""


class FeedbackRequest(BaseModel):
    """Body of `/sessions/ID/feedback`."""

    model_config = ConfigDict(extra="forbid")

    number: float | None = Field(None, ge=-MAX_REWARD, le=MAX_REWARD, allow_inf_nan=False)
    thumb: Literal["up", "down"] | None = None
    text: str | None = Field(None, min_length=1)
    turn: int | None = Field(None, ge=0)
    consent: bool | None = None

    @property
    def feedback(self) -> tuple[Feedback, ...]:
        """What is said, one record for each kind."""
        given: list[Feedback] = []
        if self.number is not None:
            given.append(Feedback(kind="number", value=self.number))
        if self.thumb is not None:
            given.append(Feedback(kind="thumb", value=float(self.thumb == "up")))
        if self.text is not None:
            given.append(Feedback(kind="text", text=well_formed(self.text)))
        return tuple(given)


@runtime_checkable
class SessionRecorder(Protocol):
    """Stores sessions durably. Each method returns when what it was given is on disk.

    Every method raises a UserError where the store cannot be written.
    """

    def record(self, session: Session, turns: Sequence[Turn], parent: Turn | None) -> None:
        """Stores the answers of one call, which continue the turn `parent`."""
        ...

    def give_feedback(
        self, session: str, given: Sequence[Feedback], turn: int | None, consent: bool | None
    ) -> int | None:
        """Stores feedback on a turn, the last by default, and consent; None leaves that as it is.

        Returns the number of the turn; None: there is no such session or turn.
        """
        ...

    def forget(self, session: str) -> bool:
        """Removes the texts, tokens and feedback of a session; returns whether it was stored."""
        ...


def read_feedback(body: Any) -> FeedbackRequest:
    """The feedback in the JSON value `body`.

    Raises:
        ApiError: it is not valid, or says nothing.
    """
    if not isinstance(body, Mapping):
        raise ApiError(f"The body is {body!r:.80}. Send a JSON object.")
    asked = validated(FeedbackRequest, body)
    if not asked.feedback and asked.consent is None:
        raise ApiError("There is no feedback. Send 'number', 'thumb', 'text' or 'consent'.")
    return asked


def note_consent(session: Session | None, request: Request, body: Any) -> None:
    """Takes over the consent that a call gives or withdraws, if it says anything about it.

    Raises:
        ApiError: it says neither true nor false.
    """
    metadata = body.get("metadata") if isinstance(body, Mapping) else None
    in_body = metadata.get("consent") if isinstance(metadata, Mapping) else None
    given = request.headers.get(CONSENT_HEADER, in_body)
    if session is None or given is None:
        return
    consent = _CONSENT.get(str(given).lower())
    if consent is None:
        raise ApiError(f"The consent is {given!r:.80}. Send true or false.", param="consent")
    session.consent = consent
