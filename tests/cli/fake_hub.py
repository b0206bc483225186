"""A hub on this machine: the calls by which `huggingface_hub` makes a repository and fills it.

Weights go the way of large files (a batch of addresses, then one PUT each), all others inside the
commit, as on the real hub without Xet.
"""

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_made_up"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Repository:
    private: bool
    files: dict[str, bytes] = field(default_factory=dict)


class FakeHub(ThreadingHTTPServer):
    """Repositories by name. `fails_with` is the status of every later commit."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.fails_with: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    hub = FakeHub()
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if found := re.fullmatch(r"/api/models/(\w[\w.-]*/[\w.-]+)/tree/main", path):
            files = self.server.repositories[found[1]].files
            self._answer(
                [
                    {"type": "file", "path": name, "size": len(content), "oid": COMMIT}
                    for name, content in files.items()
                ]
            )
        elif found := re.fullmatch(r"/api/models/(\w[\w.-]*/[\w.-]+)(/revision/main)?", path):
            repository = self.server.repositories.get(found[1])
            if repository is None:
                self._answer({"error": "Repository not found"}, 404, code="RepoNotFound")
            else:
                self._answer({"id": found[1], "private": repository.private, "sha": COMMIT})
        else:
            self._answer({"error": f"unknown address {path}"}, 404)

    def do_PUT(self) -> None:
        self.server.large[self.path.rpartition("/")[2]] = self._body()
        self._answer({})

    def do_POST(self) -> None:
        body, path = self._body(), self.path.partition("?")[0]
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            self._answer({"error": "Invalid token"}, 401)
        elif path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            private = asked.get("visibility") == "private" or asked.get("private") is True
            self.server.repositories.setdefault(name, Repository(private=private))
            self._answer({"url": f"{self.server.url}/{name}", "id": name, "name": name})
        elif path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif path.endswith("/preupload/main"):
            self._answer({"files": [_mode(file["path"]) for file in json.loads(body)["files"]]})
        elif path.endswith(".git/info/lfs/objects/batch"):
            self._answer(
                {"transfer": "basic", "objects": [*map(self._place, json.loads(body)["objects"])]}
            )
        elif found := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            self._commit(found[1], body)
        else:
            self._answer({"error": f"unknown address {path}"}, 404)

    def _place(self, large: dict[str, Any]) -> dict[str, Any]:
        address = f"{self.server.url}/large/{large['oid']}"
        return {**large, "actions": {"upload": {"href": address, "header": {}}}}

    def _commit(self, name: str, body: bytes) -> None:
        if self.server.fails_with is not None:
            self._answer({"error": "No space left"}, self.server.fails_with)
            return
        files = self.server.repositories[name].files
        for line in filter(None, body.split(b"\n")):
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
        self._answer(
            {"commitUrl": f"{self.server.url}/{name}/commit/{COMMIT}", "commitOid": COMMIT}
        )

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding") == "chunked":
            pieces = []
            while size := int(self.rfile.readline(), 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def _answer(self, content: Any, status: int = 200, code: str | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        if code is not None:
            self.send_header("x-error-code", code)
        self.end_headers()
        self.wfile.write(body)


def _mode(path: str) -> dict[str, Any]:
    mode = "lfs" if path.endswith(".safetensors") else "regular"
    return {"path": path, "uploadMode": mode, "shouldIgnore": False}
