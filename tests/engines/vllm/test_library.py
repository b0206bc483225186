"""What of vLLM is used when it starts, with a library that only fails in the place of vLLM."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from steadyrl.base.errors import UserError
from steadyrl.engines.vllm import library


class FailingEngine:
    """Starts, and fails at its first tokens."""

    is_shut_down = False

    def __init__(self) -> None:
        self.engine_core = self

    @classmethod
    def from_engine_args(cls, _: Any) -> "FailingEngine":
        engines.append(cls())
        return engines[-1]

    def add_request(self, *_: Any) -> None:
        pass

    def has_unfinished_requests(self) -> bool:
        return True

    def step(self) -> None:
        raise RuntimeError("no kernel for a head of 8")

    def shutdown(self) -> None:
        self.is_shut_down = True


engines: list[FailingEngine] = []


def test_an_engine_whose_first_tokens_fail_is_shut_down(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace(LLMEngine=FailingEngine, EngineArgs=dict)
    monkeypatch.setitem(sys.modules, "vllm", fake)
    monkeypatch.setattr(library, "require_extra", lambda *_: None)
    monkeypatch.setattr(library, "_parameters", dict)

    with pytest.raises(UserError, match=r"cannot serve this model: .*no kernel for a head of 8"):
        library.launch({"model": "any"})
    assert [engine.is_shut_down for engine in engines] == [True]
