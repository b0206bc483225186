"""Manifest of a run: versions, commit and machine."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from steadyrl.base.processor import processor_name
from steadyrl.records.run_folder import RunFolder

PACKAGES = ("torch", "transformers", "numpy", "safetensors")


def manifest(
    seed: int, data: Mapping[str, str] | None = None, settings: str | None = None
) -> dict[str, Any]:
    """Content of `run.json`.

    Args:
        data: Digests of external data; None: they are not recorded.
        settings: Digest of the settings that cannot change; None: it is not recorded.
    """
    return {
        "version": version("steadyrl"),
        "commit": _commit(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "seed": seed,
        "machine": machine(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        **({} if data is None else {"data": dict(data)}),
        **({} if settings is None else {"settings": settings}),
    }


def as_json(content: dict[str, Any]) -> str:
    """The manifest as JSON text."""
    return json.dumps(content, indent=2) + "\n"


def written_by(folder: RunFolder) -> str | None:
    """Version and commit of this package that began the run in `folder`; None if unknown."""
    try:
        content = json.loads(folder.manifest.read_text(encoding="utf-8"))
        return _source(str(content["version"]), content.get("commit"))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def this_source() -> str:
    """Version and commit of this package, in the form of `written_by`."""
    return _source(version("steadyrl"), _commit())


def _source(number: str, commit: str | None) -> str:
    return f"steadyrl {number}" + (f" at commit {commit[:12]}" if commit else "")


def machine() -> str:
    """Processor, number of cores, operating system, and GPU if there is one."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{processor_name()}, {os.cpu_count()} cores, {platform.system()}{gpu}"


def _commit() -> str | None:
    """Commit of this source tree, with `-changed` if files differ; None if unknown."""
    source = Path(__file__).parents[1]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(source), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if git("ls-files", str(Path(__file__))) == "":
            return None
        changed = git("status", "--porcelain", "--", str(source))
        return git("rev-parse", "HEAD") + ("-changed" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
