"""What comes of a request, and how soon."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from steadyrl.base import http
from steadyrl.base.http import HttpClient, ServerError, backoff, post_json, retry
from tests.engines.server import Answer, chat_server


def posted(url: str, *, timeout: float = 60.0, **options: Any) -> Any:
    return asyncio.run(post_json(url, {"q": "é\ud800"}, timeout=timeout, **options))


def refused(url: str, **options: Any) -> ServerError:
    with pytest.raises(ServerError) as refusal:
        posted(url, **options)
    return refusal.value


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


def test_a_value_is_posted_and_the_value_of_the_reply_is_returned() -> None:
    with chat_server(lambda *_: Answer(b'{"a": [1, "\\u00e9"]}')) as (url, calls):
        assert posted(f"{url}/x", headers={"Authorization": "Bearer k"}) == {"a": [1, "é"]}
    assert (calls[0].path, calls[0].body) == ("/v1/x", {"q": "é\ud800"})
    sent = {name.lower(): value for name, value in calls[0].headers.items()}
    assert (sent["content-type"], sent["authorization"]) == ("application/json", "Bearer k")


@pytest.mark.parametrize(
    ("status", "passing"), [(400, False), (401, False), (404, False), (429, True), (503, True)]
)
def test_a_status_of_failure_says_whether_it_may_pass(status: int, passing: bool) -> None:
    with chat_server(lambda *_: Answer(b"{}", status=status)) as (url, _):
        error = refused(url)
    assert (str(error), error.passing) == (f"replied with status {status}", passing)


def test_a_redirection_is_not_followed() -> None:
    elsewhere = Answer(b"", status=307, headers={"Location": "http://127.0.0.1:9/"})
    with chat_server(lambda *_: elsewhere) as (url, calls):
        assert str(refused(url)) == "replied with status 307"
    assert len(calls) == 1


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff", b"[" * 100_000])
def test_what_is_not_json_is_no_reply(body: bytes) -> None:
    with chat_server(lambda *_: Answer(body)) as (url, _):
        error = refused(url)
    assert str(error).startswith("sent an invalid reply: ")
    assert not error.passing


def test_a_reply_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LARGEST_REPLY", 10)
    with chat_server(lambda *_: Answer(b'"12345678"')) as (url, _):
        assert posted(url) == "12345678"
    with chat_server(lambda *_: Answer(b'"123456789"')) as (url, _):
        assert str(refused(url)) == "sent a reply of more than 10 bytes"


@contextmanager
def talker(begin: bytes, drip: bytes) -> Iterator[str]:
    """A server that sends `begin`, and then `drip` again and again."""
    over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def talk() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1 << 16)
            try:
                connection.sendall(begin)
                while not over.wait(0.02) and drip:
                    connection.sendall(drip)
                over.wait(20.0)
            except OSError:
                return

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        over.set()
        thread.join()
        listener.close()


HEADERS = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"


@pytest.mark.parametrize(
    ("begin", "drip"), [(b"", b""), (b"HTTP/1.1 200 OK\r\nX: ", b"x"), (HEADERS, b" ")]
)
def test_silent_and_dripping_servers_are_given_up_in_time(begin: bytes, drip: bytes) -> None:
    with talker(begin, drip) as url:
        error = refused(url, timeout=0.2)
    assert (str(error), error.passing) == ("did not reply within 0.2 s", True)


def test_a_connection_that_ends_early_broke_off() -> None:
    with chat_server(lambda *_: Answer(b"{}", headers={"Content-Length": "5"})) as (url, _):
        error = refused(url)
    assert str(error).startswith("did not complete its reply (RemoteProtocolError: ")
    assert error.passing


def test_a_server_that_is_not_there_cannot_be_reached() -> None:
    with chat_server(lambda *_: Answer(b"")) as (url, _):
        pass
    error = refused(url)
    assert str(error).startswith("cannot be reached (")
    assert "Connect call failed" in str(error)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'{"error": {"message": "Token 7 is out of vocabulary"}}', "Token 7 is out of vocabulary"),
        (b'{"error": "no such model"}', "no such model"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b'{"success": false, "message": "shape\\n mismatch"}', "shape mismatch"),
        (b"out of\nmemory", "out of memory"),
        (b"x" * 400, "x" * 300 + "..."),
    ],
)
def test_a_refusal_quotes_the_server_on_one_line(body: bytes, detail: str) -> None:
    with chat_server(lambda *_: Answer(body, status=400)) as (url, _):
        error = refused(url)
    assert (str(error), error.status) == (f"replied with status 400: {detail}", 400)


def test_a_key_that_the_server_repeats_is_not_quoted() -> None:
    with chat_server(lambda *_: Answer(b"bad key s3cret", status=401)) as (url, _):
        error = refused(url, headers={"Authorization": "Bearer s3cret"})
    assert str(error) == "replied with status 401: bad key ***"


def test_concurrent_requests_share_connections_and_close_them() -> None:
    client = HttpClient()

    async def ask(url: str) -> list[Any]:
        first = asyncio.create_task(client.post(url, 0, timeout=60.0))
        while client._pool is None:
            await asyncio.sleep(0)
        pool = client._pool
        second = asyncio.create_task(client.post(url, 1, timeout=60.0))
        replies = [await first, await second]
        assert pool.is_closed
        assert client._pool is None
        return replies

    with chat_server(lambda call, _: Answer(b"%d" % call.body)) as (url, _):
        for _ in range(2):  # in event loops of their own
            assert asyncio.run(ask(url)) == [0, 1]


def failing(errors: list[ServerError]) -> Any:
    left = iter(errors)

    async def attempt() -> str:
        for error in left:
            raise error
        return "done"

    return attempt


BUSY, WRONG = ServerError("busy", passing=True), ServerError("wrong", passing=False)


def test_what_may_pass_is_tried_again_until_the_waits_are_used_up() -> None:
    assert asyncio.run(retry(failing([BUSY, BUSY]), iter([0.0, 0.0]))) == "done"
    for errors, waits in (([BUSY, BUSY], [0.0]), ([WRONG], [0.0])):
        with pytest.raises(ServerError) as error:
            asyncio.run(retry(failing(errors), iter(waits)))
        assert error.value is errors[-1]


def test_waits_double_up_to_a_limit_and_end_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0
    monkeypatch.setattr(http.time, "monotonic", lambda: clock)
    waits = []
    for wait in backoff(1.0, longest=8.0, seconds=60.0):
        waits.append(wait)
        clock += wait
    assert clock == pytest.approx(60.0)
    bounds = [1.0, 2.0, 4.0, 8.0, *[8.0] * (len(waits) - 5)]
    for wait, bound in zip(waits, bounds, strict=False):
        assert bound / 2 <= wait <= bound
