"""`steadyrl live`: what it refuses, and a loop that serves, learns and is killed."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import yaml

from steadyrl.base.kernel_caches import CACHES
from steadyrl.cli.main import main
from steadyrl.live.settings import write_live_config
from tests.live.sessions import tiny_live


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"run.algorithm": {"name": "policy_gradient"}}, "run.algorithm is 'policy_gradient'"),
        ({"run.algorithm.objective": {"name": "grpo"}}, "answers may be older than the weights"),
        ({"run.algorithm.mini_batches": 2}, "mini_batches above 1"),
        ({"run.sampling.top_p": 0.9}, "run.sampling has top_p or top_k"),
        ({"run.optimizer.schedule": "cosine"}, "schedule decays"),
        ({"max_sessions": 2}, "max_sessions is 2, less than sessions"),
        ({"redact": "no name"}, "redact"),
        ({"store": "sessions.sqlite"}, "which is not a URL of SQLAlchemy"),
        ({"thumbs": 1}, "thumbs"),
    ],
)
def test_configurations_are_refused(
    changes: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = yaml.safe_load(write_live_config(tiny_live(tmp_path)))
    for name, value in changes.items():
        *blocks, last = name.split(".")
        block = values
        for each in blocks:
            block = block[each]
        block[last] = value
    file = tmp_path / "live.yaml"
    file.write_text(yaml.safe_dump(values))

    assert main(["live", str(file), "--out", str(tmp_path / "live"), "--port", "0"]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_missing_configuration_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["live", "nowhere.yaml"]) == 2
    assert "There is no configuration at nowhere.yaml" in capsys.readouterr().err


def test_the_command_limits_the_caches_of_kernels_first(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CACHES:
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)

    assert main(["live", "nowhere.yaml"]) == 2
    assert [os.environ[name] for name in CACHES] == ["64", "64"]


def lines_until(process: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    assert process.stdout is not None
    deadline = time.monotonic() + 300
    for line in process.stdout:
        if found := re.search(pattern, line):
            return found
        assert time.monotonic() < deadline
    raise AssertionError(f"the process ended without {pattern}")


def end(process: subprocess.Popen[str], number: signal.Signals) -> None:
    process.send_signal(number)
    process.wait(90)
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.slow
def test_sessions_are_served_learned_from_and_survive_kills(tmp_path: Path) -> None:
    file = tmp_path / "live.yaml"
    file.write_text(write_live_config(tiny_live(tmp_path)))
    command = [sys.executable, "-m", "steadyrl.cli.main", "live", str(file)]
    command += ["--out", str(tmp_path / "live"), "--port", "0"]

    def start() -> subprocess.Popen[str]:
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    def sessions(url: str, names: str) -> None:
        for name in names:
            body = {"model": "live", "messages": [{"role": "user", "content": "1+2="}]}
            reply = httpx.post(f"{url}/sessions/{name}/v1/chat/completions", json=body, timeout=60)
            assert reply.status_code == 200
            said = {"text": "it is 3", "consent": True}
            reply = httpx.post(f"{url}/sessions/{name}/feedback", json=said, timeout=60)
            assert reply.status_code == 200

    process = start()
    try:
        url = lines_until(process, r"at (http://\S+)/v1")[1]
        sessions(url, "abcd")
        lines_until(process, "serving generation 1")
        sessions(url, "ef")
        end(process, signal.SIGKILL)
        process = start()
        url = lines_until(process, r"at (http://\S+)/v1")[1]
        sessions(url, "gh")
        lines_until(process, "serving generation 2")
    finally:
        end(process, signal.SIGTERM)
    assert (tmp_path / "live" / "live.html").exists()
