"""A chat server: what it is asked, and everything that it can do wrong."""

import asyncio
import json
from typing import Any

import pytest
from pydantic import ValidationError

from steadyrl.base.errors import UserError
from steadyrl.engines.openai import OpenAIReflector, OpenAISettings, ReflectorError
from steadyrl.engines.protocol import Sampling
from steadyrl.records.message import Message
from tests.engines.server import Answer, Call, Script, chat_server, says

ASKED = (Message(role="system", content="Be brief."), Message(role="user", content="Warum?"))


def ask(script: Script, **settings: Any) -> tuple[str, list[Call]]:
    with chat_server(script) as (url, calls):
        values = {"base_url": url, "model": "m", "retry_wait": 0.0, **settings}
        server = OpenAIReflector(OpenAISettings(**values))
        return asyncio.run(server.complete(ASKED, seed=2**40 + 3)), calls


def refusal(script: Script, **settings: Any) -> tuple[str, list[Call]]:
    calls: list[Call] = []

    def noting(call: Call, number: int) -> Answer:
        calls.append(call)
        return script(call, number)

    with pytest.raises(ReflectorError) as error:
        ask(noting, **settings)
    return str(error.value), calls


def test_the_server_is_asked_in_openai_s_protocol() -> None:
    sampling = Sampling(temperature=0.3, top_p=0.8, max_new_tokens=77)
    text, (call,) = ask(lambda *_: says("Därum."), sampling=sampling)
    assert text == "Därum."
    assert call.path == "/v1/chat/completions"
    assert "Authorization" not in call.headers
    assert call.body == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Warum?"},
        ],
        "temperature": 0.3,
        "top_p": 0.8,
        "max_tokens": 77,
        "seed": 3,
    }


def test_top_k_is_sent_where_it_is_set() -> None:
    _, (call,) = ask(lambda *_: says("yes"), sampling=Sampling(top_k=20))
    assert call.body["top_k"] == 20


def test_the_key_comes_from_the_environment_and_goes_nowhere_but_into_the_header(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REFLECTOR_KEY", "s3cret")
    _, (call,) = ask(lambda *_: says("yes"), api_key_variable="REFLECTOR_KEY")
    assert call.headers["Authorization"] == "Bearer s3cret"
    message, _ = refusal(lambda *_: Answer(b"s", status=401), api_key_variable="REFLECTOR_KEY")
    assert "s3cret" not in message


@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_key_is_refused_before_the_run_begins(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("REFLECTOR_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("REFLECTOR_KEY", value)
    with pytest.raises(UserError, match=r"REFLECTOR_KEY, which holds .* is not set. Set it, or"):
        OpenAIReflector(OpenAISettings(model="m", api_key_variable="REFLECTOR_KEY"))


def test_passing_trouble_is_tried_again() -> None:
    for status in (429, 500, 503):
        text, calls = ask(
            lambda _, n, s=status: Answer(b"", status=s) if n < 2 else says("at last")
        )
        assert text == "at last"
        assert len(calls) == 3
        assert calls[0].body == calls[2].body


def test_trouble_that_does_not_pass_is_an_error_that_says_so() -> None:
    message, calls = refusal(lambda *_: Answer(b"", status=503), retries=1)
    assert message.endswith("/v1 replied with status 503")
    assert len(calls) == 2


@pytest.mark.parametrize("status", [400, 401, 404])
def test_what_was_asked_wrongly_is_not_asked_again(status: int) -> None:
    message, calls = refusal(lambda *_: Answer(b"", status=status))
    assert f"replied with status {status}" in message
    assert len(calls) == 1


def test_a_redirection_is_not_followed() -> None:
    elsewhere = Answer(b"", status=307, headers={"Location": "http://127.0.0.1:9/v1"})
    message, calls = refusal(lambda *_: elsewhere)
    assert "replied with status 307" in message
    assert len(calls) == 1


def test_a_reply_cut_off_by_its_budget_is_no_reply() -> None:
    message, calls = refusal(lambda *_: says("half a", finish_reason="length"))
    assert "truncated at max_new_tokens" in message
    assert len(calls) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"\xff",
        b"[" * 100_000,
        b"[]",
        b'{"choices": []}',
        b'{"choices": [{"message": {"content": null}}]}',
        json.dumps({"error": "x" * 500}).encode(),
    ],
)
def test_replies_in_another_format_are_errors_in_a_few_words(body: bytes) -> None:
    message, calls = refusal(lambda *_: Answer(body))
    assert "sent an invalid reply" in message
    assert len(message) < 300
    assert len(calls) == 1


def test_a_server_that_is_not_there_is_an_error() -> None:
    with chat_server(lambda *_: says("")) as (url, _):
        pass
    settings = OpenAISettings(base_url=url, model="m", retries=1, retry_wait=0.0)
    with pytest.raises(ReflectorError, match=r"cannot be reached"):
        asyncio.run(OpenAIReflector(settings).complete(ASKED, seed=0))


def test_a_server_that_takes_too_long_is_an_error() -> None:
    slow = Answer(b"x" * 1000, trickle=0.05)
    message, _ = refusal(lambda *_: slow, timeout=0.2, retries=0)
    assert "did not reply within 0.2 s" in message
    silent = Answer(b"x", trickle=5.0)
    message, _ = refusal(lambda *_: silent, timeout=0.2, retries=0)
    assert "did not reply within 0.2 s" in message


def test_a_connection_that_breaks_off_is_an_error() -> None:
    broken = Answer(b'{"choices"', headers={"Transfer-Encoding": "chunked"})
    message, _ = refusal(lambda *_: broken, retries=0)
    assert "did not complete its reply" in message


@pytest.mark.parametrize(
    "values",
    [
        {"model": ""},
        {"base_url": "ftp://somewhere/v1"},
        {"base_url": "http://user:password@somewhere/v1"},
        {"timeout": 0},
        {"retries": -1},
    ],
)
def test_impossible_settings_are_refused_by_name(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(values))):
        OpenAISettings(**{"model": "m", **values})
