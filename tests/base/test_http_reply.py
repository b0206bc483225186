"""A reply is read within a time and a size."""

import io
import time
from http.client import HTTPResponse

import pytest

from steadyrl.base import http_reply
from steadyrl.base.http_reply import read_reply


class _Socket:
    """Bytes as a connection gives them."""

    def __init__(self, received: bytes) -> None:
        self._received = received

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._received)


def reply_of(body: bytes) -> HTTPResponse:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    response = HTTPResponse(_Socket(head + body))  # type: ignore[arg-type]
    response.begin()
    return response


def test_a_long_reply_is_read_to_its_end() -> None:
    body = bytes(range(256)) * 1000
    assert read_reply(reply_of(body), time.monotonic() + 10) == body


def test_a_late_reply_is_given_up() -> None:
    with pytest.raises(TimeoutError):
        read_reply(reply_of(b"late"), time.monotonic() - 1)


def test_a_reply_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_reply, "LARGEST_REPLY", 10)
    with pytest.raises(OSError, match="more than 10 bytes"):
        read_reply(reply_of(b"0123456789a"), time.monotonic() + 10)
