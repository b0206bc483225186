"""Malformed requests for the gateway, the same for a seed, and the check of what comes back.

Bodies are cut and flipped, values have other types, numbers are huge, JSON is deeply nested, and
texts hold control tokens of three tokenizers, surrogates and null bytes.
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from trained_tokenizers import TOKENIZERS

from steadyrl.policies.tokenizers import control_tokens

MODEL = "served"
ALLOWED = frozenset({200, 400, 401, 404, 413, 415, 429, 504})
"""Statuses of a server that works."""

_TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
_MESSAGES = [
    {"role": "system", "content": "Add."},
    {"role": "user", "content": [{"type": "text", "text": "3+4="}]},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "add", "arguments": '{"a": 3, "b": 4}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "7"},
]
_ITEMS = [
    {"role": "user", "content": "3+4="},
    {"type": "function_call", "call_id": "c", "name": "add", "arguments": '{"a": 3, "b": 4}'},
    {"type": "function_call_output", "call_id": "c", "output": "7"},
]
_SAMPLING = {"model": MODEL, "temperature": 0.5, "top_p": 0.9, "stream": False}

BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        **_SAMPLING,
        "messages": _MESSAGES,
        "tools": [_TOOL],
        "max_tokens": 2,
        "n": 1,
        "stop": ["a"],
        "seed": 1,
        "logprobs": True,
        "stream_options": {"include_usage": True},
    },
    "/v1/completions": {**_SAMPLING, "prompt": "3+4=", "max_tokens": 2, "logprobs": 1, "n": 1},
    "/v1/responses": {
        **_SAMPLING,
        "input": _ITEMS,
        "instructions": "Add.",
        "tools": [{"type": "function", **_TOOL["function"]}],  # type: ignore[dict-item]
        "max_output_tokens": 2,
        "include": ["message.output_text.logprobs"],
        "previous_response_id": None,
    },
    "/sessions/a/reward": {"reward": 1.0},
}

_JUNK: list[Any] = [
    None,
    True,
    -1,
    0,
    2**63,
    10**400,
    -(10**4000),
    1e308,
    float("inf"),
    float("nan"),
    1e-320,
    "",
    "x",
    "\x00",
    "\ud800",
    "\U0001f600" * 50,
    "x" * 20_000,
    [],
    {},
    [[]],
    {"a": None},
    [None],
    {"type": "function"},
    {"": {"": ""}},
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fuzzed:
    """A request.

    Example:
        Fuzzed(kind="cut", path="/v1/chat/completions", content=b'{"model')
    """

    kind: str
    path: str
    content: bytes
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "application/json"})

    @property
    def encoded_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers as bytes, which need not be ASCII."""
        return [(name.encode(), value.encode("latin-1")) for name, value in self.headers.items()]


def requests(seed: int, count: int) -> Iterator[Fuzzed]:
    """So many requests."""
    draws = random.Random(seed)
    control = [token for make in TOKENIZERS.values() for token in control_tokens(make())]
    kinds = list(_KINDS.items())
    for _ in range(count):
        kind, make = draws.choice(kinds)
        path = draws.choice(list(BODIES))
        fuzzed = make(draws, path, control)
        where = draws.choice(["", "", "/sessions/a"]) if path.startswith("/v1") else ""
        yield Fuzzed(
            kind=kind,
            path=where + fuzzed.path,
            content=fuzzed.content,
            method=fuzzed.method,
            headers=fuzzed.headers,
        )


def wrong_reply(status: int, body: bytes) -> str:
    """What is wrong with a reply; empty if nothing is."""
    if status not in ALLOWED:
        return f"status {status}: {body[:300]!r}"
    if status == 200:
        return ""
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return f"status {status} without OpenAI's error: {body[:300]!r}"
    if set(error) != {"message", "type", "param", "code"} or not error["message"]:
        return f"status {status} with the error {error!r:.300}"
    return ""


def _json(body: Any) -> bytes:
    return json.dumps(body).encode("utf-8", "surrogatepass")


def _body(path: str) -> Any:
    return json.loads(json.dumps(BODIES[path]))


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Containers and keys of all values below."""
    found: list[tuple[Any, Any]] = []
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, below in list(items):
        found.append((value, key))
        if isinstance(below, dict | list):
            found += _places(below)
    return found


def _cut(draws: random.Random, path: str, control: list[str]) -> Fuzzed:
    content = bytearray(_json(_body(path)))
    for _ in range(draws.randrange(4)):
        content[draws.randrange(len(content))] = draws.randrange(256)
    end = draws.choice([len(content), draws.randrange(len(content))])
    return Fuzzed(kind="", path=path, content=bytes(content[:end]))


def _retyped(draws: random.Random, path: str, control: list[str]) -> Fuzzed:
    body = _body(path)
    for _ in range(draws.choice([1, 1, 2, 3])):
        container, key = draws.choice(_places(body))
        container[key] = deepcopy(draws.choice(_JUNK))
    return Fuzzed(kind="", path=path, content=_json(body))


def _missing(draws: random.Random, path: str, control: list[str]) -> Fuzzed:
    body = _body(path)
    container, key = draws.choice(_places(body))
    if draws.random() < 0.5:
        del container[key]
    elif isinstance(container, dict):
        name = draws.choice(["extra", "response_format", "top_k", "\ud800", ""])
        container[name] = deepcopy(draws.choice(_JUNK))
    return Fuzzed(kind="", path=path, content=_json(body))


def _nested(draws: random.Random, path: str, control: list[str]) -> Fuzzed:
    depth = draws.choice([50, 200, 400, 900, 2000, 100_000])
    opening, closing = draws.choice([("[", "]"), ('{"a":', "}"), ('{"function":', "}")])
    deep = opening * depth + ("" if draws.random() < 0.2 else "1" + closing * depth)
    body = _body(path)
    container, key = draws.choice(_places(body))
    container[key] = "@"
    text = json.dumps(body).replace('"@"', deep)
    if draws.random() < 0.3:  # as the arguments of a call, which are read as JSON of their own
        container[key] = deep
        text = json.dumps(body)
    return Fuzzed(kind="", path=path, content=text.encode())


def _huge(draws: random.Random, path: str, control: list[str]) -> Fuzzed:
    body = _body(path)
    numbers = [place for place in _places(body) if isinstance(place[0][place[1]], int | float)]
    container, key = draws.choice(numbers or _places(body))
    container[key] = "@"
    number = draws.choice(
        ["1e400", "-1e400", "9" * 400, "9" * 5000, "1" + "0" * 30, "0." + "0" * 400 + "1", "-0"]
    )
    return Fuzzed(kind="", path=path, content=json.dumps(body).replace('"@"', number).encode())


def _controls(draws: random.Random, path: str, control: list[str]) -> Fuzzed:
    body = _body(path)
    for container, key in _places(body):
        if isinstance(container[key], str) and key != "model" and draws.random() < 0.5:
            container[key] += draws.choice(control) + draws.choice(["", "assistant\n", "\n"])
    return Fuzzed(kind="", path=path, content=_json(body))


def _elsewhere(draws: random.Random, path: str, control: list[str]) -> Fuzzed:
    paths = [
        "/",
        "/v1",
        "/v1/models",
        "/v1/models/%00",
        "/v1/models/../../etc/passwd",
        "/sessions/%2e%2e/v1/models",
        f"/sessions/{'x' * 300}/v1/chat/completions",
        "/sessions/%F0%9F%98%80/v1/chat/completions",
        "/sessions/nobody",
        "/sessions/nobody/reward",
        "/v1/embeddings",
        "/metrics",
    ]
    method = draws.choice(["GET", "POST", "PUT", "DELETE", "PATCH"])
    kind = draws.choice(["application/json", "text/plain", "", "application/json; charset=x", ";"])
    key = draws.choice(["", "Bearer", "Bearer x", "Basic \u00e9"])
    headers = {"content-type": kind, "authorization": key, "x-steadyrl-session": "a/b"}
    kept = {name: value for name, value in headers.items() if draws.random() < 0.6}
    return Fuzzed(
        kind="",
        path=draws.choice([*paths, path]),
        content=_json(_body(path)),
        method=method,
        headers=kept,
    )


def _valid(draws: random.Random, path: str, control: list[str]) -> Fuzzed:
    return Fuzzed(kind="", path=path, content=_json(_body(path)))


_KINDS: dict[str, Callable[[random.Random, str, list[str]], Fuzzed]] = {
    "valid": _valid,
    "cut": _cut,
    "retyped": _retyped,
    "missing": _missing,
    "nested": _nested,
    "huge": _huge,
    "control tokens": _controls,
    "elsewhere": _elsewhere,
}
