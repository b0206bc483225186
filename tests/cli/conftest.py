"""Commands as a user gives them, a run that they made, and a hub to upload to."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from steadyrl.cli.main import main
from tests.cli.fake_hub import TOKEN, FakeHub, fake_hub
from tests.cli.tiny_demo import TINY, Steady


@pytest.fixture
def steadyrl(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Steady:
    """Runs a command; returns exit code, output and errors."""
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main(arguments)
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="package")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo, with tiny sizes, run to its end by the command line."""
    path = tmp_path_factory.mktemp("runs") / "demo"
    assert main(["train", "demo", "--out", str(path), "--routing-replay", "r3", *TINY]) == 0
    return path


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub at the address that the client asks, and a token for it."""
    with fake_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub
