"""Where the numbers of a run come from."""

import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from steadyrl.records.run_folder import RunFolder
from steadyrl.run.manifest import as_json, manifest, this_source, written_by


def test_manifest_names_versions_seed_machine_and_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/steadyrl", "train", "demo"])
    content = json.loads(as_json(manifest(seed=17)))

    assert content["seed"] == 17
    assert content["command"] == ["steadyrl", "train", "demo"]
    assert content["version"] == version("steadyrl")
    assert content["python"] == platform.python_version()
    assert content["packages"]["transformers"] == version("transformers")
    assert f"{os.cpu_count()} cores" in content["machine"]


def test_the_source_of_a_run_is_its_version_and_commit(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert written_by(folder) is None
    folder.manifest.write_text(as_json(manifest(seed=0)))
    assert written_by(folder) == this_source()
    folder.manifest.write_text(json.dumps({"version": "7.0", "commit": "0123456789abcdef"}))
    assert written_by(folder) == "steadyrl 7.0 at commit 0123456789ab"


def test_commit_is_that_of_the_source_not_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Path(__file__).parents[2]
    command = ["git", "-C", str(here), "rev-parse", "HEAD"]
    head = subprocess.run(command, capture_output=True, text=True, check=False)
    if head.returncode:
        pytest.skip("not a git checkout")
    monkeypatch.chdir(tmp_path)

    assert manifest(0)["commit"].removesuffix("-changed") == head.stdout.strip()


def test_a_change_anywhere_in_the_package_marks_the_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, other = tmp_path / "package" / "run" / "manifest.py", tmp_path / "package" / "loss.py"
    source.parent.mkdir(parents=True)
    for file in (source, other):
        file.write_text("1")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    monkeypatch.setattr("steadyrl.run.manifest.__file__", str(source))
    clean = manifest(0)["commit"]
    other.write_text("2")

    assert len(clean) == 40
    assert manifest(0)["commit"] == f"{clean}-changed"
    monkeypatch.setattr("steadyrl.run.manifest.__file__", str(source.with_name("untracked.py")))
    assert manifest(0)["commit"] is None


def test_commit_is_unknown_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    assert manifest(0)["commit"] is None
