"""Writes the sessions of a gateway to the store, after redaction."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from steadyrl.base.errors import call_user_code, require_type
from steadyrl.base.named_object import named_object
from steadyrl.gateway.recording import Feedback
from steadyrl.gateway.sessions import Session, Turn
from steadyrl.live.records import StoredTurn
from steadyrl.live.settings import LiveConfig
from steadyrl.live.store import SessionStore
from steadyrl.records.message import Message

Redact = Callable[[str], str]


class StoreRecorder:
    """Redacts texts, looks for failure in later messages, and stores.

    Args:
        redact: The text that may be stored in place of a message or feedback; None: all may.
        find_failure: What a later message of the user says about a failure, or an empty text.

    Raises:
        UserError: `record` and `give_feedback` do if a hook fails. Nothing is stored then.
    """

    def __init__(
        self,
        store: SessionStore,
        *,
        redact: Callable[[str], Any] | None = None,
        find_failure: Callable[[str], Any] | None = None,
    ) -> None:
        self._store = store
        self._redact_hook = redact
        self._failure_hook = find_failure

    @classmethod
    def of(cls, config: LiveConfig, store: SessionStore) -> "StoreRecorder":
        """The recorder with the hooks that `config` names."""
        return cls(
            store,
            redact=_hook(config.redact, "redact"),
            find_failure=_hook(config.find_failure, "find_failure"),
        )

    def record(self, session: Session, turns: Sequence[Turn], parent: Turn | None) -> None:
        """Stores the answers of one call, and what the call says about the one before."""
        stored = [self._stored(turn) for turn in turns]
        before = None if parent is None else self._redacted(parent.messages)
        self._store.add_turns(
            session.id,
            stored,
            consent=session.consent,
            parent=None if before is None else [(m.role, m.content) for m in before],
            earlier=() if parent is None else self._failures(parent, turns),
        )

    def give_feedback(
        self, session: str, given: Sequence[Feedback], turn: int | None, consent: bool | None
    ) -> int | None:
        """Stores feedback with redacted texts."""
        kept = [
            Feedback(kind=each.kind, value=each.value, text=self._redact(each.text))
            for each in given
        ]
        return self._store.add_feedback(session, kept, turn=turn, consent=consent)

    def forget(self, session: str) -> bool:
        """Removes a session from the store."""
        return self._store.forget(session)

    def _stored(self, turn: Turn) -> StoredTurn:
        """The turn as it is stored. Tokens spell the texts, so redacted turns have none."""
        messages = self._redacted(turn.messages)
        unchanged = messages == turn.messages
        return StoredTurn(messages=messages, completion=turn.completion if unchanged else None)

    def _failures(self, parent: Turn, turns: Sequence[Turn]) -> list[Feedback]:
        """What the messages after `parent` say about its failure."""
        hook = self._failure_hook
        if hook is None or not turns:
            return []
        later = turns[0].messages[len(parent.messages) : -1]
        said = [message.content for message in later if message.role == "user"]
        found = [_text(partial(hook, text), "find_failure") for text in said]
        return [Feedback(kind="later_message", text=self._redact(text)) for text in found if text]

    def _redacted(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        return tuple(Message(role=m.role, content=self._redact(m.content)) for m in messages)

    def _redact(self, text: str) -> str:
        if self._redact_hook is None or not text:
            return text
        return _text(partial(self._redact_hook, text), "redact")


def _text(hook: Callable[[], Any], name: str) -> str:
    """The text that a hook returns. None counts as an empty one."""
    found = call_user_code(hook, failure=f"The hook {name} failed", remedy="Fix it.")
    return require_type(
        "" if found is None else found,
        str,
        given_by=f"The hook {name}",
        noun="a text",
        remedy="Return a str.",
    )


def _hook(path: str | None, setting: str) -> Callable[[str], Any] | None:
    found: Callable[[str], Any] | None = None
    if path is not None:
        found = named_object(path, given_as=setting)
    return found
