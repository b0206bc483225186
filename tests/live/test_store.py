"""The store keeps what it acknowledged, and gives each session to one generation."""

import sqlite3
from pathlib import Path

import pytest
import torch

from steadyrl.base.errors import UserError
from steadyrl.gateway.recording import Feedback
from steadyrl.live.records import Generation, Verdict, prompt_key
from steadyrl.live.store import SessionStore
from steadyrl.records.message import Message
from tests.live.sessions import DOWN, UP, fill, stored


def url_of(path: Path) -> str:
    return f"sqlite:///{path / 'sessions.sqlite'}"


@pytest.fixture
def store(tmp_path: Path) -> SessionStore:
    return SessionStore(url_of(tmp_path))


def test_another_connection_reads_the_tokens_to_the_bit(
    store: SessionStore, tmp_path: Path
) -> None:
    turn = stored("37")
    store.add_turns("a", [turn], consent=True)
    store.add_feedback("a", [UP, Feedback(kind="text", text="rather 4")])

    again = SessionStore(url_of(tmp_path))
    assert again.claim(1, at_least=1, at_most=9)
    (example,) = again.examples(1)

    assert example.messages == turn.messages
    assert example.reward == 1.0
    assert example.text == "rather 4"
    found, kept = example.completion, turn.completion
    assert found is not None
    assert kept is not None
    for name in ("prompt_ids", "token_ids", "logprobs", "token_versions"):
        assert torch.equal(getattr(found, name), getattr(kept, name)), name
    assert found.finish_reason is kept.finish_reason


def test_sessions_without_consent_or_feedback_are_never_claimed(store: SessionStore) -> None:
    store.add_turns("no consent", [stored()])
    store.add_feedback("no consent", [UP])
    store.add_turns("refused", [stored()], consent=True)
    store.add_feedback("refused", [UP], consent=False)
    store.add_turns("silent", [stored()], consent=True)

    assert store.ready() == 0
    assert not store.claim(1, at_least=1, at_most=9)
    assert store.generations() == []


def test_consent_that_is_withdrawn_after_the_claim_counts(store: SessionStore) -> None:
    fill(store, ["a", "b"])
    store.claim(1, at_least=2, at_most=2)
    store.add_feedback("a", [], consent=False)

    assert {example.session for example in store.examples(1)} == {"b"}
    assert store.sessions_of(1) == ["a", "b"]


def test_every_session_is_in_one_generation_in_the_order_of_waiting(tmp_path: Path) -> None:
    clock = iter(range(10**6))
    store = SessionStore(url_of(tmp_path), clock=lambda: float(next(clock)))
    fill(store, [f"s{number}" for number in range(7)])

    for number in (1, 2):
        assert store.claim(number, at_least=2, at_most=3)
        verdict = Generation(number=number, verdict=Verdict.PROMOTED, policy_version=number)
        store.finish(verdict)

    assert not store.claim(3, at_least=2, at_most=3)
    assert [store.sessions_of(n) for n in (1, 2)] == [["s0", "s1", "s2"], ["s3", "s4", "s5"]]
    assert [g.number for g in store.generations()] == [1, 2]


def test_a_session_settles_before_it_is_claimed(tmp_path: Path) -> None:
    now = [0.0]
    store = SessionStore(url_of(tmp_path), clock=lambda: now[0])
    fill(store, ["a"])
    now[0] = 59.0
    assert store.ready(settle=60.0) == 0
    now[0] = 60.0
    assert store.ready(settle=60.0) == 1


def test_feedback_is_on_the_last_turn_or_on_the_one_that_is_named(store: SessionStore) -> None:
    store.add_turns("a", [stored("1")], consent=True)
    store.add_turns("a", [stored("2"), stored("3")])

    assert store.add_feedback("a", [DOWN], turn=0) == 0
    assert store.add_feedback("a", [UP]) == 2
    assert store.add_feedback("a", [UP], turn=3) is None
    assert store.add_feedback("b", [UP]) is None
    store.claim(1, at_least=1, at_most=1)
    assert [(e.turn, e.reward) for e in store.examples(1)] == [(0, 0.0), (2, 1.0)]


def test_a_forgotten_session_leaves_its_name_only(store: SessionStore, tmp_path: Path) -> None:
    store.add_turns("a", [stored("my secret 3")], consent=True)
    store.add_feedback("a", [Feedback(kind="text", text="secret")])
    store.claim(1, at_least=1, at_most=1)

    assert store.forget("a")
    assert not store.forget("b")
    assert store.examples(1) == []
    assert store.sessions_of(1) == ["a"]
    store.close()
    with sqlite3.connect(tmp_path / "sessions.sqlite") as file:
        assert "secret" not in "\n".join(file.iterdump())


def test_earlier_rewards_are_those_of_the_same_prompt_in_finished_generations(
    store: SessionStore,
) -> None:
    for number, name in enumerate(("a", "b", "c"), start=1):
        store.add_turns(name, [stored(question="1+2=" if name != "b" else "2+2=")], consent=True)
        store.add_feedback(name, [UP if name != "c" else DOWN])
        store.claim(number, at_least=1, at_most=1)
    same = prompt_key((Message(role="user", content="1+2="),))

    assert store.earlier_rewards(3, [same]) == {same: [1.0]}
    assert store.earlier_rewards(4, [same]) == {same: [1.0, 0.0]}


def test_a_locked_store_is_one_sentence(tmp_path: Path) -> None:
    store = SessionStore(url_of(tmp_path), timeout=0.05)
    with sqlite3.connect(tmp_path / "sessions.sqlite", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match=r"^The session store sqlite:\S+ is locked by another"):
            store.add_turns("a", [stored()], consent=True)
        with pytest.raises(UserError, match="is locked"):
            SessionStore(url_of(tmp_path), timeout=0.05)
        other.execute("ROLLBACK")
    assert store.ready() == 0


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sessions.sqlite", "which is not a URL"),
        ("sqlite:////no/such/folder/x.sqlite", "cannot be used: unable to open database file"),
        ("oracle+cx_oracle://host/name", "cannot be opened: ModuleNotFoundError"),
    ],
)
def test_a_store_that_cannot_be_used_is_one_sentence(url: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        SessionStore(url)
