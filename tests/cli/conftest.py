"""Commands as a user gives them, and a run that they made."""

from pathlib import Path

import pytest

from steadyrl.cli.main import main
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
