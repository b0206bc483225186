"""Agent programs that are commands, which read the task and write the reward.

    stdin      {"id": ..., "messages": [...], "data": ..., "tools": [...], "model": ...}
    variables  OPENAI_BASE_URL, OPENAI_API_KEY, OPENAI_MODEL, STEADYRL_REWARD_URL
    stdout     last line: the reward, or {"reward": ..., "feedback": ..., "reward_parts": {...}}

Input and output are files, so that no process of the program can block on a pipe or keep one open.
"""

import asyncio
import json
import os
import signal
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from steadyrl.base.text import well_formed
from steadyrl.environments.agent_access import AgentFailedError, AgentTask, ModelAccess
from steadyrl.environments.protocol import Outcome, as_reward

MAX_OUTPUT = 16 << 20
"""Bytes that a command may write to stdout, and to stderr."""

_CHECKED_EVERY = 0.5
"""Seconds between two checks of how much was written."""

_LAST_BYTES = 64 << 10
"""Bytes at the end of the output that are read."""


async def run_command(
    command: Sequence[str], task: AgentTask, access: ModelAccess
) -> Outcome | None:
    """Runs a command on a task, without a shell. All its processes are killed at the end.

    Returns:
        What it wrote; None: its last line is no reward, so it posts it.

    Raises:
        AgentFailedError: it ended with an error, or wrote too much.
        OSError: it cannot be started.
        TypeError: the task's data is not JSON.
        ValueError: the reward is not finite.
    """
    with TemporaryDirectory(prefix="steadyrl-agent-") as folder:
        given, written, errors = (Path(folder) / name for name in ("stdin", "stdout", "stderr"))
        given.write_text(_task_text(task, access), encoding="utf-8")
        with ExitStack() as files:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=files.enter_context(given.open("rb")),
                stdout=files.enter_context(written.open("wb")),
                stderr=files.enter_context(errors.open("wb")),
                env={**os.environ, **_variables(access)},
                start_new_session=True,
            )
        try:
            await _ended(process, (written, errors))
        finally:
            await _kill(process)
        if process.returncode:
            raise AgentFailedError(_failure(process.returncode, _last_line(errors)))
        return _outcome(_last_line(written))


def _task_text(task: AgentTask, access: ModelAccess) -> str:
    """The task as JSON on one line."""
    fields = {
        "id": task.id,
        "messages": task.messages,
        "data": task.data,
        "tools": task.tools,
        "model": access.model,
    }
    return json.dumps(fields) + "\n"


def _variables(access: ModelAccess) -> Mapping[str, str]:
    return {
        "OPENAI_BASE_URL": access.base_url,
        "OPENAI_API_KEY": access.api_key,
        "OPENAI_MODEL": access.model,
        "STEADYRL_REWARD_URL": access.base_url.removesuffix("/v1") + "/reward",
    }


async def _ended(process: Process, outputs: Sequence[Path]) -> None:
    """Returns when the process has ended.

    Raises:
        AgentFailedError: it wrote too much.
    """
    end = asyncio.ensure_future(process.wait())
    try:
        while not end.done():
            await asyncio.wait((end,), timeout=_CHECKED_EVERY)
            if any(output.stat().st_size > MAX_OUTPUT for output in outputs):
                raise AgentFailedError(f"the program wrote more than {MAX_OUTPUT >> 20} MiB")
    finally:
        end.cancel()


async def _kill(process: Process) -> None:
    """Kills what is left of the process group, and waits for the process itself."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _failure(status: int, last_line: str) -> str:
    """Why a program failed."""
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    return f"the program {how}: {last_line}" if last_line else f"the program {how}"


def _last_line(output: Path) -> str:
    """The last line of a file that is not empty."""
    with output.open("rb") as file:
        file.seek(max(0, output.stat().st_size - _LAST_BYTES))
        lines = file.read().decode("utf-8", "replace").splitlines()
    return next((well_formed(line.strip()) for line in reversed(lines) if line.strip()), "")


def _outcome(line: str) -> Outcome | None:
    """The reward in the last line of a program; None: there is none."""
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not (isinstance(value, Mapping) and "reward" in value):
        is_number = isinstance(value, int | float)
        return Outcome(reward=as_reward(value), terminated=True) if is_number else None
    feedback, parts = value.get("feedback") or "", value.get("reward_parts") or {}
    if not isinstance(feedback, str) or not isinstance(parts, Mapping):
        raise TypeError(f"the reward is {line:.200}. Give feedback as text, and parts by name.")
    return Outcome(
        reward=as_reward(value["reward"]),
        terminated=True,
        feedback=feedback,
        reward_parts={name: as_reward(part) for name, part in parts.items()},
    )
