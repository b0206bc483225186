"""The gateway in front of a store: consent, feedback, and durability of what was answered."""

from pathlib import Path
from typing import Any

import pytest

from steadyrl.gateway.app import GatewayApp
from steadyrl.live.recorder import StoreRecorder
from steadyrl.live.serving import session_rules
from steadyrl.live.settings import LiveServerSettings
from steadyrl.live.store import SessionStore
from tests.gateway.serving import MODEL, Served, make_app, served
from tests.live.sessions import tiny_live
from tests.rollout.fakes import ScriptedEngine

QUESTION = {"model": MODEL, "messages": [{"role": "user", "content": "1+2="}]}


def app_of(store: SessionStore) -> GatewayApp:
    app: GatewayApp = make_app(ScriptedEngine(lambda prompt, i, n: "3"), forgets_oldest=True)
    app.gateway.recorder = StoreRecorder(store)
    return app


@pytest.fixture
def store(tmp_path: Path) -> SessionStore:
    return SessionStore(f"sqlite:///{tmp_path / 'sessions.sqlite'}", timeout=0.05)


def ask(server: Served, session: str, **options: Any) -> Any:
    body = QUESTION | options.pop("body", {})
    return server.post(f"/sessions/{session}/v1/chat/completions", json=body, **options)


def say(server: Served, session: str, **body: Any) -> Any:
    return server.post(f"/sessions/{session}/feedback", json=body)


def test_only_sessions_with_consent_and_feedback_are_ready(store: SessionStore) -> None:
    with served(app_of(store)) as server:
        ask(server, "header", headers={"x-steadyrl-consent": "true"})
        ask(server, "metadata", body={"metadata": {"consent": "true"}})
        ask(server, "later")
        ask(server, "never")
        ask(server, "silent", headers={"x-steadyrl-consent": "true"})
        assert say(server, "header", thumb="up").json() == {"id": "header", "turn": 0}
        say(server, "metadata", text="it is 4")
        say(server, "later", number=0.5, consent=True)
        say(server, "never", thumb="down")

    assert store.claim(1, at_least=1, at_most=9)
    assert store.sessions_of(1) == ["header", "later", "metadata"]
    rewards = {example.session: example.reward for example in store.examples(1)}
    assert rewards == {"header": 1.0, "later": 0.5, "metadata": None}


def test_feedback_reaches_sessions_of_a_server_that_ended(store: SessionStore) -> None:
    with served(app_of(store)) as server:
        ask(server, "a", headers={"x-steadyrl-consent": "true"})
    with served(app_of(store)) as server:
        assert say(server, "a", thumb="up").status_code == 200
        ask(server, "a")
        assert say(server, "a", thumb="down").json()["turn"] == 1
        assert server.get("/sessions/a").status_code == 200
        deleted = server.post  # a client that goes on without the session gets an error
        assert deleted("/sessions/b/feedback", json={"thumb": "up"}).status_code == 404

    store.claim(1, at_least=1, at_most=1)
    assert [example.reward for example in store.examples(1)] == [1.0, 0.0]


@pytest.mark.parametrize(("pinned", "status"), [(True, 409), (False, 200)])
def test_a_session_is_refused_after_a_promotion_if_it_is_pinned(
    pinned: bool, status: int, tmp_path: Path
) -> None:
    config = tiny_live(tmp_path, server=LiveServerSettings(pinned=pinned))
    engine = ScriptedEngine(lambda prompt, i, n: "3")
    with served(make_app(engine, rules=session_rules(config))) as server:
        assert ask(server, "a").status_code == 200
        engine.policy_version += 1
        assert ask(server, "a").status_code == status
        assert ask(server, "b").status_code == 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "There is no feedback"),
        ({"thumb": "sideways"}, "thumb"),
        ({"number": "NaN"}, "number"),
        ({"number": 1e13}, "number"),
        ({"stars": 5}, "stars"),
        ({"text": ""}, "text"),
        ({"thumb": "up", "turn": 5}, "The store has no turn 5"),
    ],
)
def test_feedback_that_is_not_valid_is_refused(
    store: SessionStore, body: dict[str, Any], message: str
) -> None:
    with served(app_of(store)) as server:
        ask(server, "a", headers={"x-steadyrl-consent": "true"})
        reply = say(server, "a", **body)
        refused = ask(server, "a", headers={"x-steadyrl-consent": "perhaps"})

    assert reply.status_code in (400, 404)
    assert message in reply.json()["error"]["message"]
    assert "Send true or false" in refused.json()["error"]["message"]
    assert store.ready() == 0


def test_an_answer_that_cannot_be_stored_is_not_sent(store: SessionStore, tmp_path: Path) -> None:
    import sqlite3

    with served(app_of(store)) as server:
        with sqlite3.connect(tmp_path / "sessions.sqlite", isolation_level=None) as other:
            other.execute("BEGIN EXCLUSIVE")
            reply = ask(server, "a")
            other.execute("ROLLBACK")
        assert reply.status_code == 503
        assert "is locked by another process" in reply.json()["error"]["message"]
        assert say(server, "a", thumb="up").status_code == 404
        assert ask(server, "a").status_code == 200
        assert say(server, "a", thumb="up").json()["turn"] == 0
