import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import ValidationError

from steadyrl.environments.retrieval import Passage, RetrievalError, Retriever
from steadyrl.environments.retriever_http import (
    HTTPRetriever,
    HTTPRetrieverSettings,
    parse_passages,
)

LIBRARY = [
    {"id": "1", "contents": '"Rome"\nRome lies on the Tiber.\nIt is old.'},
    {"id": "2", "contents": "Oslo\nOslo lies by the sea."},
    {"id": "3", "contents": "A text without a title."},
]
PASSAGES = [
    Passage(title="Rome", text="Rome lies on the Tiber.\nIt is old."),
    Passage(title="Oslo", text="Oslo lies by the sea."),
    Passage(title="", text="A text without a title."),
]

Behaviour = Callable[["Handler", dict[str, Any]], None]


class Handler(BaseHTTPRequestHandler):
    """Answers every request in the way its server was given."""

    server: "Server"

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, self.headers["Content-Type"], question))
        self.server.behaviour(self, question)

    def reply(self, body: bytes, *, status: int = 200, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """A retrieval server on the loopback interface."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        self.behaviour: Behaviour = scored
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/retrieve"

    def handle_error(self, *_: object) -> None:
        """A client that hung up is no matter."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


def retriever(url: str, timeout: float = 20.0) -> HTTPRetriever:
    return HTTPRetriever(HTTPRetrieverSettings(url=url, timeout=timeout))


def searched(client: HTTPRetriever, query: str, count: int) -> list[Passage]:
    return asyncio.run(client.search(query, count))


def scored(handler: Handler, question: dict[str, Any]) -> None:
    """As Search-R1's servers answer when scores are asked for."""
    found = [{"document": document, "score": 1.0} for document in LIBRARY]
    handler.reply(json.dumps({"result": [found[: question["topk"]]]}).encode())


def test_a_query_is_posted_and_its_passages_are_read(server: Server):
    client = retriever(server.url)
    assert isinstance(client, Retriever)
    assert searched(client, "Where is Rome? é\ud800", 2) == PASSAGES[:2]
    body = {"queries": ["Where is Rome? é\ud800"], "topk": 2, "return_scores": True}
    assert server.asked == [("/retrieve", "application/json", body)]


def test_no_more_passages_are_taken_than_were_asked_for(server: Server):
    server.behaviour = lambda handler, _: scored(handler, {"topk": 3})
    assert searched(retriever(server.url), "Rome", 1) == PASSAGES[:1]


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (LIBRARY, PASSAGES),
        ([{"title": "Rome", "text": "Old."}], [Passage(title="Rome", text="Old.")]),
        ([{"document": {"title": "Rome", "text": "Old."}}], [Passage(title="Rome", text="Old.")]),
        ([], []),
    ],
)
def test_passages_are_read_without_scores_and_in_two_parts(
    entries: list[Any], expected: list[Passage]
):
    assert parse_passages({"result": [entries]}) == expected


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html>", r"sent an invalid reply: Expecting value"),
        (b"\xff\xfe\xfa", r"sent an invalid reply: "),
        (b"[" * 100_000, r"sent an invalid reply: "),
        (b'{"results": []}', r'expected \{"result": \[\[\.\.\.\]\]\}, got \{\'results\''),
        (b'{"result": []}', r'expected \{"result"'),
        (b'{"result": "Rome"}', r'expected \{"result"'),
        (b'{"result": [["Rome"]]}', r"expected a document with \"contents\", got 'Rome'"),
        (b'{"result": [[{"document": 5}]]}', r"expected a document with .*, got 5"),
        (b'{"result": [[{"contents": null}]]}', r"expected a document with"),
    ],
)
def test_another_format_is_a_failure_that_shows_it(server: Server, body: bytes, reason: str):
    server.behaviour = lambda handler, _: handler.reply(body)
    with pytest.raises(RetrievalError, match=rf"the retriever at {server.url} .*{reason}"):
        searched(retriever(server.url), "Rome", 1)


def test_an_error_status_is_a_failure(server: Server):
    server.behaviour = lambda handler, _: handler.reply(b"out of memory", status=500)
    with pytest.raises(RetrievalError, match=r"retrieve replied with status 500: out of memory$"):
        searched(retriever(server.url), "Rome", 1)


def test_a_reply_that_ends_early_is_a_failure(server: Server):
    server.behaviour = lambda handler, _: handler.connection.close()
    with pytest.raises(RetrievalError, match=r"retrieve (did not complete its reply|cannot be)"):
        searched(retriever(server.url), "Rome", 1)


def silent(handler: Handler, _: dict[str, Any]) -> None:
    handler.server.released.wait(20.0)


def dripping(handler: Handler, _: dict[str, Any]) -> None:
    """Never silent for long, and never done."""
    handler.reply(b"", length=10**6)
    while not handler.server.released.wait(0.02):
        handler.wfile.write(b" ")


def dripping_headers(handler: Handler, _: dict[str, Any]) -> None:
    """Each byte comes in time, and the headers never end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    while not handler.server.released.wait(0.02):
        handler.wfile.write(b"x")


@pytest.mark.parametrize("slow", [silent, dripping, dripping_headers])
def test_a_slow_server_is_given_up(server: Server, slow: Behaviour):
    server.behaviour = slow
    with pytest.raises(RetrievalError, match=r"retrieve did not reply within 0.2 s$"):
        searched(retriever(server.url, timeout=0.2), "Rome", 1)


def test_an_endless_reply_is_given_up(server: Server):
    server.behaviour = lambda handler, _: handler.reply(b" " * (2**24 + 1))
    with pytest.raises(RetrievalError, match=r"sent a reply of more than 16777216 bytes"):
        searched(retriever(server.url), "Rome", 1)


def test_a_server_that_is_not_there_is_a_failure(server: Server):
    with Server() as closed:
        url = closed.url
    with pytest.raises(RetrievalError, match=rf"{url} cannot be reached \(.*Connect call failed"):
        searched(retriever(url), "Rome", 1)


@pytest.mark.parametrize("url", ["127.0.0.1:8000/retrieve", "file:///etc/passwd", ""])
def test_an_address_that_is_not_http_is_refused(url: str):
    with pytest.raises(ValidationError, match="url"):
        HTTPRetrieverSettings(url=url)
