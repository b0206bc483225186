"""One writer for each run folder."""

import os
import signal
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

HOLD_AND_FORK = """
import os, pathlib, sys, time
from steadyrl.base.run_lock import only_writer
with only_writer(pathlib.Path(sys.argv[1])):
    if os.fork() == 0:
        print("held", flush=True)
        time.sleep(60)
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


def test_a_child_process_does_not_keep_the_folder_of_its_parent(tmp_path: Path) -> None:
    """Such as a data loader, or a server that a reward function has started."""
    path = tmp_path / "run"
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD_AND_FORK, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert first.stdout is not None
    assert first.stdout.readline() == b"held\n"
    first.kill()
    first.wait()
    try:
        with only_writer(path):
            pass
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.communicate()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written"), only_writer(tmp_path / "file" / "x"):
        raise AssertionError("no folder")
