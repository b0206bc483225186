"""A real vLLM server for tests, which can be killed and started again."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from steadyrl.engines.servers.engine import ServerEngine
from steadyrl.engines.vllm.build import vllm_engine
from steadyrl.engines.vllm.connect import EXTENSION
from steadyrl.engines.vllm.settings import VllmSettings
from steadyrl.policies.policy import Policy

STARTS_WITHIN = 300.0
"""Seconds."""

_OPTIONS = {
    "--dtype": "float32",
    "--logprobs-mode": "processed_logprobs",
    "--generation-config": "vllm",
    "--worker-extension-cls": EXTENSION,
    "--max-num-seqs": "16",
    "--block-size": "32",
}


class VllmServerProcess:
    """`vllm serve` on the loopback, with the checkpoint in `folder`.

    Args:
        options: Further words of the command.
    """

    def __init__(self, folder: Path, log: Path, options: Sequence[str] = ()) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        options = [*(word for option in _OPTIONS.items() for word in option), *options]
        self._command = [
            *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
            *("--model", str(folder), "--host", "127.0.0.1", "--port", str(self.port)),
            *("--enforce-eager", "--no-enable-chunked-prefill", *options),
        ]
        self._log = log

    def start(self) -> None:
        """Starts the server, without waiting for it."""
        environment = {
            "VLLM_SERVER_DEV_MODE": "1",
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_NO_USAGE_STATS": "1",
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                self._command,
                env={**os.environ, **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Returns when it is ready."""
        deadline = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self._log.read_text()[-4000:]
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5.0):
                    return
            except OSError:
                time.sleep(0.5)
        raise TimeoutError(self._log.read_text()[-4000:])

    def kill(self) -> None:
        """Kills all processes of the server."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def connected(server: VllmServerProcess, policy: Policy, **settings: Any) -> Iterator[ServerEngine]:
    """The engine on `server`."""
    values = {"url": server.url, "numerics": "float32", "patience": STARTS_WITHIN, **settings}
    engine = vllm_engine(VllmSettings(**values), policy, seed=3)
    assert isinstance(engine, ServerEngine)
    try:
        yield engine
    finally:
        engine.close()
