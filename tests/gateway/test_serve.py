"""`steadyrl serve`: a checkpoint behind the server, and what it refuses."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from steadyrl.base.concurrency import in_thread
from steadyrl.base.errors import UserError
from steadyrl.cli.main import main
from steadyrl.cli.serve import configured, served_model
from steadyrl.engines.driver import drive
from steadyrl.run.serving import serve
from tests.run.checkpoints import write_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("served") / "tiny")


def run(checkpoint: Path, *options: str, check: Any = None) -> Any:
    """What `check` returns, given the URL of the server that the options describe."""
    _, settings, config = configured([str(checkpoint)], options)
    config = config.model_copy(update={"model": served_model(str(checkpoint), config.model)})

    async def serving() -> Any:
        url = asyncio.get_running_loop().create_future()
        server = asyncio.ensure_future(
            serve(config, settings, name="tiny", api_key=None, announce=url.set_result)
        )
        await asyncio.wait((server, url), return_when=asyncio.FIRST_COMPLETED)
        if server.done():
            return server.result()
        found = await in_thread(lambda: check(url.result()))
        server.cancel()
        await asyncio.wait((server,))
        return found

    return drive(serving())


def test_a_checkpoint_answers_with_the_sampling_of_the_options(checkpoint: Path) -> None:
    question = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}

    def ask(url: str) -> Any:
        path = f"{url}/v1/chat/completions"
        return [httpx.post(path, json=question, timeout=60).json() for _ in range(2)]

    options = ("--port", "0", "--sampling.max-new-tokens", "5", "--sampling.temperature", "0")
    first, second = run(checkpoint, *options, check=ask)

    assert first["usage"]["completion_tokens"] <= 5
    assert first["choices"] == second["choices"]


def test_a_port_that_is_taken_is_refused(checkpoint: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"Cannot listen at 127.0.0.1:{port}: Address already"):
            run(checkpoint, "--port", str(port))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "--host is 0.0.0.0, which other machines reach, without a key"),
        (["--api-key-variable", "NO_SUCH_KEY"], "variable NO_SUCH_KEY is not set"),
        (["--port", "70000"], "port"),
        (["--limits.timeout", "0"], "limits.timeout"),
        (["--limits.time", "5"], "--limits.timeout"),
    ],
)
def test_options_are_refused(
    checkpoint: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", str(checkpoint), *options]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_is_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve"]) == 2
    assert "needs one folder of a run or of a checkpoint, got 0" in capsys.readouterr().err
    assert main(["serve", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err
