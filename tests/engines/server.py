"""A chat server on the loopback, which answers as a script says."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Call:
    """One request that the server got."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class Answer:
    """Status and body of a reply; `trickle` sends it byte by byte, so many seconds apart."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    trickle: float = 0.0


Script = Callable[[Call, int], Answer]
"""The answer to a call, which is number `n`."""


def says(text: str, finish_reason: str = "stop") -> Answer:
    """A well-formed reply."""
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    return Answer(json.dumps({"choices": [choice]}).encode())


@contextmanager
def chat_server(script: Script) -> Iterator[tuple[str, list[Call]]]:
    """The server's base URL and the calls it gets."""
    calls: list[Call] = []
    lock, over = threading.Lock(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            call = Call(self.path, dict(self.headers), body)
            with lock:
                calls.append(call)
                number = len(calls) - 1
            self.reply(script(call, number))

        def reply(self, answer: Answer) -> None:
            self.send_response(answer.status)
            length = str(len(answer.body))
            for name, value in {"Content-Length": length, **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            pieces = [answer.body]
            if answer.trickle:
                pieces = [answer.body[n : n + 1] for n in range(len(answer.body))]
            for piece in pieces:
                if answer.trickle and over.wait(answer.trickle):
                    return
                try:
                    self.wfile.write(piece)
                    self.wfile.flush()
                except OSError:
                    return

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", calls
    finally:
        over.set()
        server.shutdown()
        thread.join()
        server.server_close()
