"""Agent programs that are commands."""

import asyncio
import json
import os
import shlex
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from steadyrl.base.errors import UserError
from steadyrl.engines.driver import drive
from steadyrl.environments import agent_commands
from steadyrl.environments.agent_access import AgentFailedError, AgentTask, ModelAccess
from steadyrl.environments.agent_commands import run_command
from steadyrl.environments.agents import AgentSettings
from steadyrl.environments.protocol import Outcome, Split

ACCESS = ModelAccess(base_url="http://127.0.0.1:9/sessions/e/v1", api_key="secret", model="policy")
TASK = AgentTask(
    id="t", messages=[{"role": "user", "content": "$(touch x); `id` \u2603"}], data=7, tools=[]
)


def run(code: str, task: AgentTask = TASK) -> Any:
    """What a command that runs `code` with Python comes to."""
    command = [sys.executable, "-S", "-c", textwrap.dedent(code)]
    return drive(run_command(command, task, ACCESS))


def test_a_command_reads_task_and_access_and_writes_its_reward() -> None:
    outcome = run(
        """
        import json, os, sys
        task = json.loads(sys.stdin.readline())
        names = ["OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_MODEL", "STEADYRL_REWARD_URL"]
        said = [os.environ[name] for name in names] + [task["messages"][0]["content"]]
        print("working...")
        print(json.dumps({"reward": task["data"], "feedback": "|".join(said),
                          "reward_parts": {"form": 0.5}}))
        print()
        """
    )

    assert outcome == Outcome(
        reward=7.0,
        terminated=True,
        feedback="http://127.0.0.1:9/sessions/e/v1|secret|policy|"
        "http://127.0.0.1:9/sessions/e/reward|$(touch x); `id` \u2603",
        reward_parts={"form": 0.5},
    )


@pytest.mark.parametrize(("text", "reward"), [("0.25", 0.25), ("log\\n-1", -1.0)])
def test_a_number_is_a_reward(text: str, reward: float) -> None:
    assert run(f"print('{text}')").reward == reward


@pytest.mark.parametrize("text", ["", "done", "[1]", '{"score": 1}', "3 points"])
def test_other_output_leaves_the_reward_to_be_posted(text: str) -> None:
    assert run(f"print('{text}')") is None


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        ("raise SystemExit('no tool')", AgentFailedError, r"ended with status 1: no tool$"),
        ("import os; os._exit(3)", AgentFailedError, r"ended with status 3$"),
        ("import os; os.kill(os.getpid(), 9)", AgentFailedError, r"was killed by signal 9$"),
        ("print('NaN')", ValueError, "the reward is nan"),
        ("print('1e999')", ValueError, "the reward is inf"),
        ('print(\'{"reward": "good"}\')', TypeError, "the reward is 'good'"),
        ("print('{\"reward\": null}')", TypeError, "the reward is None"),
        ('print(\'{"reward": 1, "feedback": 2}\')', TypeError, "Give feedback as text"),
        ('print(\'{"reward": 1, "reward_parts": [2]}\')', TypeError, "and parts by name"),
    ],
)
def test_a_failure_has_its_reason(code: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run(code)


def test_data_that_is_not_json_is_refused() -> None:
    task = AgentTask(id="t", messages=[], data={1, 2}, tools=[])
    with pytest.raises(TypeError, match="set is not JSON serializable"):
        run("", task)


def test_a_command_that_writes_without_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_commands, "MAX_OUTPUT", 1 << 20)
    with pytest.raises(AgentFailedError, match="wrote more than 1 MiB"):
        run(
            """
            import time
            print("x" * (2 << 20), flush=True)
            time.sleep(60)
            """
        )


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except (OSError, ValueError):
        return False


STARTS_ANOTHER = """
    import os, subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    with open({path!r} + ".new", "w") as file:
        file.write(f"{{os.getpid()}} {{child.pid}}")
    os.rename({path!r} + ".new", {path!r})
    time.sleep({sleep})
    print(1)
"""


@pytest.mark.parametrize("sleep", [0, 60])
def test_no_process_of_a_command_outlives_it(tmp_path: Path, sleep: int) -> None:
    """Neither where it leaves one behind, nor where its time is over."""
    started = tmp_path / "processes"
    code = textwrap.dedent(STARTS_ANOTHER.format(path=str(started), sleep=sleep))

    async def limited() -> Any:
        command = asyncio.ensure_future(
            run_command([sys.executable, "-S", "-c", code], TASK, ACCESS)
        )
        while not started.exists():
            await asyncio.sleep(0.01)
        if sleep:
            command.cancel()
        return (await asyncio.wait((command,), timeout=30))[0].pop()

    command = drive(limited())

    assert command.cancelled() if sleep else command.result().reward == 1
    deadline = time.monotonic() + 10
    while any(map(alive, map(int, started.read_text().split()))):
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Numbers:
    """Tasks that only have a number."""

    def task(self, split: Split, index: int) -> Any:
        raise NotImplementedError


def settings(program: str) -> AgentSettings:
    return AgentSettings(program=program, tasks=f"{__name__}:Numbers")


def test_a_command_line_is_split_into_words_and_checked(tmp_path: Path) -> None:
    spaced = tmp_path / "my agent.py"
    line = shlex.join([sys.executable, str(spaced), "--level", "a b"])

    assert settings(line).command == [sys.executable, str(spaced), "--level", "a b"]
    assert settings("my_agent:solve").command == []
    assert json.loads(settings(line).model_dump_json())["program"] == line
    with pytest.raises(UserError, match="neither MODULE:FUNCTION nor a command of this machine"):
        settings("no-such-agent --fast").make()
    with pytest.raises(UserError, match=r"No closing quotation. Correct the quotes"):
        settings("python 'agent.py").make()
