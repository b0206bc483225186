"""Hooks see every text before it is stored."""

from pathlib import Path

import pytest

from steadyrl.base.errors import UserError
from steadyrl.engines.protocol import Sampling
from steadyrl.gateway.recording import Feedback
from steadyrl.gateway.sessions import Session, SessionRules
from steadyrl.live.recorder import StoreRecorder
from steadyrl.live.store import SessionStore
from steadyrl.records.message import Message
from tests.live.sessions import UP, turn


@pytest.fixture
def store(tmp_path: Path) -> SessionStore:
    return SessionStore(f"sqlite:///{tmp_path / 'sessions.sqlite'}")


def session() -> Session:
    return Session(id="a", rules=SessionRules(sampling=Sampling()), consent=True)


def hide(text: str) -> str:
    return text.replace("Ann", "[NAME]")


def test_redacted_texts_are_stored_without_the_tokens_that_spell_them(store: SessionStore) -> None:
    recorder = StoreRecorder(store, redact=hide)
    recorder.record(session(), [turn("I am Ann", "hi Ann")], None)
    recorder.record(session(), [turn("1+2=", "3")], None)
    recorder.give_feedback("a", [Feedback(kind="text", text="Ann, please")], 0, None)
    recorder.give_feedback("a", [UP], 1, None)
    store.claim(1, at_least=1, at_most=1)

    named, plain = store.examples(1)

    assert [message.content for message in named.messages] == ["I am [NAME]", "hi [NAME]"]
    assert named.text == "[NAME], please"
    assert named.completion is None
    assert plain.completion is not None


@pytest.mark.parametrize("result", [ValueError("no"), 7])
def test_nothing_is_stored_if_redaction_fails(store: SessionStore, result: object) -> None:
    def fails(text: str) -> object:
        if isinstance(result, Exception):
            raise result
        return result

    recorder = StoreRecorder(store, redact=fails)
    with pytest.raises(UserError, match="The hook redact"):
        recorder.record(session(), [turn("1+2=", "3")], None)

    assert store.add_feedback("a", [UP]) is None


def test_a_later_message_is_feedback_on_the_answer_before_it(store: SessionStore) -> None:
    recorder = StoreRecorder(
        store,
        redact=hide,
        find_failure=lambda text: text.removeprefix("wrong: ") if "wrong" in text else None,
    )
    first = turn("1+2=", "4")
    recorder.record(session(), [first], None)
    later = turn("wrong: Ann says 3", "3")
    both = (*first.messages, *later.messages)
    second = type(later)(
        conversation=later.conversation,
        reply=later.reply,
        completion=later.completion,
        messages=both,
    )
    recorder.record(session(), [second], first)
    third = (*both, Message(role="user", content="fine"), Message(role="assistant", content="ok"))
    recorder.record(
        session(),
        [
            type(later)(
                conversation=later.conversation,
                reply=later.reply,
                completion=later.completion,
                messages=third,
            )
        ],
        second,
    )
    store.claim(1, at_least=1, at_most=1)

    (example,) = store.examples(1)

    assert (example.turn, example.text) == (0, "[NAME] says 3")
