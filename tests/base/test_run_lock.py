"""One writer for each run folder."""

import subprocess
import sys
from pathlib import Path

import pytest

from steadyrl.base.errors import UserError
from steadyrl.base.run_lock import only_writer

HOLD = """
import sys, pathlib
from steadyrl.base.run_lock import only_writer
with only_writer(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_writer_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "run"
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert first.stdout is not None
    assert first.stdin is not None
    assert first.stdout.readline() == b"held\n"
    with (
        pytest.raises(UserError, match=r"Another process is writing the run in .*--resume"),
        only_writer(path),
    ):
        raise AssertionError("two writers")
    first.kill()
    first.wait()
    first.stdin.close()
    first.stdout.close()
    with only_writer(path):
        assert (path / ".lock").exists()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written"), only_writer(tmp_path / "file" / "x"):
        raise AssertionError("no folder")
