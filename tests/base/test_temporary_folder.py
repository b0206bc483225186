"""Folders for temporary files outlive their process for no longer than the next one."""

import subprocess
import sys
from pathlib import Path

from steadyrl.base.temporary_folder import TemporaryFolder

HOLD = """
import sys
from steadyrl.base.temporary_folder import TemporaryFolder
folder = TemporaryFolder(sys.argv[1])
print(folder.path, flush=True)
sys.stdin.read()
"""


def test_what_a_killed_process_left_is_removed_by_the_next_and_nothing_else(
    tmp_path: Path,
) -> None:
    (tmp_path / "steadyrl-foreign").mkdir()
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as owner:
        assert owner.stdout is not None
        theirs = Path(owner.stdout.readline().strip())
        (theirs / "weights").write_text("large")
        with TemporaryFolder(tmp_path) as ours:
            assert theirs.is_dir()
            owner.kill()
            owner.wait()
            with TemporaryFolder(tmp_path) as next_one:
                left = {path.name for path in tmp_path.iterdir()}
                assert left == {"steadyrl-foreign", ours.name, next_one.name}
    assert [path.name for path in tmp_path.iterdir()] == ["steadyrl-foreign"]


def test_a_folder_of_another_machine_is_left(tmp_path: Path) -> None:
    other = tmp_path / "steadyrl-other"
    other.mkdir()
    (other / ".lock").write_text("another-machine.example")
    with TemporaryFolder(tmp_path):
        assert other.is_dir()
