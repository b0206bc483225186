"""Tools of real MCP servers in episodes."""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

pytest.importorskip("mcp.server.mcpserver", reason="mcp 2 is not installed")

from steadyrl.base import extras
from steadyrl.base.errors import UserError
from steadyrl.environments.adapters.mcp_tools import MCPSettings, MCPTools, chosen
from steadyrl.environments.adapters.time_limits import SlowCallError
from steadyrl.environments.protocol import Outcome, Split, Task
from steadyrl.records.message import Message
from steadyrl.records.tool_calls import ToolSettings
from tests.driving import respond

SERVER = (sys.executable, str(Path(__file__).with_name("mcp_counter.py")))
SETTINGS = MCPSettings(
    tasks=f"{__name__}:Totals",
    command=SERVER,
    tools=ToolSettings(shown="none", calls="json"),
)


class Totals:
    """Asks for a total."""

    def task(self, split: Split, index: int) -> Task:
        prompt = Message(role="user", content="What is the total?")
        return Task(id=f"totals/{split}/{index}", prompt=(prompt,), payload=index)

    def distinct_tasks(self, split: Split) -> int:
        return 7

    def start(self, task: Task) -> "Totals":
        assert isinstance(task.payload, int)
        return self

    async def respond(self, text: str) -> Outcome:
        return Outcome(reward=float("total is" in text), terminated=True)


def call(name: str, **arguments: Any) -> str:
    return json.dumps({"name": name, "arguments": arguments})


def read(outcome: Outcome) -> str:
    (message,) = outcome.observation
    assert message.role == "tool"
    return message.content


@pytest.fixture(scope="module")
def tools() -> Iterator[MCPTools]:
    environment = SETTINGS.make()
    yield environment
    environment.close()


def test_calls_are_answered_by_the_server_and_the_answer_is_judged(tools: MCPTools) -> None:
    task = tools.task(Split.TRAIN, 3)
    assert task.tools == ()
    assert tools.distinct_tasks(Split.TRAIN) == 7
    episode = tools.start(task)

    before = int(read(respond(episode, call("add", number=0))).split()[-1])
    assert read(respond(episode, call("add", number=2))) == f"the total is {before + 2}"
    two = f"[{call('add', number=1)}, {call('add', number=1)}]"
    texts = [message.content for message in respond(episode, two).observation]
    assert texts == [f"the total is {before + 3}", f"the total is {before + 4}"]
    assert respond(episode, "the total is 4") == Outcome(reward=1.0, terminated=True)


def test_errors_are_told_to_the_model(tools: MCPTools) -> None:
    episode = tools.start(tools.task(Split.TRAIN, 0))
    assert "no luck" in read(respond(episode, call("fail")))
    assert "number" in read(respond(episode, call("add")))
    assert read(respond(episode, call("multiply"))) == "error: There is no tool multiply."
    listed = '{"name": "add", "arguments": [1]}'
    assert read(respond(episode, listed)) == "error: The arguments are not a JSON object."


def test_after_the_last_call_the_text_is_the_answer(tools: MCPTools) -> None:
    episode = tools.start(tools.task(Split.TRAIN, 0))
    for _ in range(SETTINGS.calls):
        assert not respond(episode, call("add", number=0)).terminated
    assert respond(episode, call("add", number=0)) == Outcome(reward=0.0, terminated=True)
    assert SETTINGS.max_turns == SETTINGS.calls + 1


def test_a_slow_tool_fails_its_episode_and_a_dead_server_is_started_again() -> None:
    environment = SETTINGS.model_copy(
        update={"timeout": 60.0, "tools": ToolSettings(calls="json"), "allowed": ("add", "sleep")}
    ).make()
    try:
        task = environment.task(Split.TRAIN, 0)
        names = [schema["function"]["name"] for schema in task.tools]
        assert names == ["add", "sleep"]
        assert task.tools[0]["function"]["description"] == "Adds to the total."
        assert "number" in task.tools[0]["function"]["parameters"]["properties"]
        assert read(respond(environment.start(task), call("quit_now"))).startswith("error: There")

        server = environment.server()
        with pytest.raises(ConnectionError, match="has ended"):
            asyncio.run(server.call("quit_now", {}))
        assert read(respond(environment.start(task), call("add", number=5))) == "the total is 5"

        server = environment.server()
        server.timeout = 0.3
        began = time.monotonic()
        with pytest.raises(SlowCallError, match=r"the tool sleep took more than 0\.3 s"):
            respond(environment.start(task), call("sleep"))
        assert time.monotonic() - began < 10
    finally:
        environment.close()


@pytest.mark.slow
def test_servers_with_state_are_started_for_each_episode() -> None:
    environment = SETTINGS.model_copy(update={"server_per_episode": True}).make()
    try:
        episodes = [environment.start(environment.task(Split.TRAIN, 0)) for _ in range(2)]
        texts = [read(respond(episode, call("add", number=5))) for episode in episodes]
        assert texts == ["the total is 5"] * 2
    finally:
        environment.close()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"command": ("no-such-server",)}, "no-such-server cannot be used: FileNotFoundError"),
        ({"command": ("true",)}, "The MCP server true cannot be used: MCPError"),
        ({"command": ("sleep", "9"), "timeout": 0.2}, r"no answer within 0\.2 s. Check env"),
        ({"command": (), "url": "http://127.0.0.1:9/mcp"}, "9/mcp cannot be used|no answer within"),
        ({"tasks": "fractions:Fraction"}, "returned a Fraction, which is not an environment"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(changes: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        SETTINGS.model_copy(update=changes).make()


def test_an_unknown_tool_is_refused(tools: MCPTools) -> None:
    with pytest.raises(UserError, match=r"no tool 'ad'\. Did you mean 'add'"):
        chosen(tools.server().schemas, ["ad"])


def test_a_server_is_named_once() -> None:
    with pytest.raises(ValidationError, match="either command or url"):
        MCPSettings(tasks="a:b")


def test_the_missing_package_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda module: None)
    with pytest.raises(UserError, match=r"'mcp' is not installed. .*'steadyrl\[mcp\]'"):
        SETTINGS.make()
