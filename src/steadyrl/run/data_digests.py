"""Digests of the external data of a run, which are compared when the run is resumed.

run.json contains under "data", by setting, the SHA-256 of each file and folder that the
configuration names, of user code named by `module:name` or as an argument of an agent's command,
and of the tokenizer, chat template and configuration of a checkpoint. Weights are included only for
GGUF, where they share one file with the rest: a resumed run uses the weights of its checkpoints.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers.utils import cached_file

from steadyrl.base.digest import sha256_of
from steadyrl.base.errors import UserError
from steadyrl.base.named_object import user_file
from steadyrl.base.settings import Settings
from steadyrl.environments.agents import AgentSettings
from steadyrl.environments.custom import CustomSettings
from steadyrl.environments.dataset import DatasetSettings
from steadyrl.environments.dataset.function_reward import FunctionReward
from steadyrl.environments.dataset.sources import is_local
from steadyrl.environments.hotpot_questions import HubQuestions
from steadyrl.environments.reasoning_gym_tasks import ReasoningGymSettings
from steadyrl.policies.gguf_files import gguf_file
from steadyrl.policies.model_settings import Pretrained
from steadyrl.records.run_folder import RunFolder
from steadyrl.run.config import RunConfig

Digests = dict[str, str]

CHECKPOINT_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "tekken.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)
"""Files of a checkpoint that determine its prompts and the ends of its responses."""


def data_digests(config: RunConfig) -> Digests:
    """Digests of the external data of `config` by setting.

    Raises:
        UserError: a file or folder is missing.
    """
    return {place: _digest(source) for place, source in _sources(config, "") if source}


def compare_data(
    folder: RunFolder, found: Digests, *, accept: bool
) -> tuple[dict[str, list[str]], str]:
    """Changed data as `{"data.environment.path": [old, new]}`, and a note about them.

    Args:
        folder: Folder of the run, with the digests of the data that it has read.
        found: Present digests.
        accept: Whether changed data are accepted.

    Raises:
        UserError: data have changed, and this is not accepted.
    """
    known = _known_digests(folder)
    if known is None:
        note = "Whether its data have changed is not known: no digests of them are on record yet."
        return {}, note if found else ""
    changed = sorted(name for name in known.keys() & found.keys() if known[name] != found[name])
    if not changed:
        return {}, ""
    told = ", ".join(f"{name} (was {known[name]:.12}, is {found[name]:.12})" for name in changed)
    if accept:
        changes = {f"data.{name}": [known[name], found[name]] for name in changed}
        return changes, f"Resumed with changed data: {told}."
    raise UserError(
        f"Data that {folder.config} names have changed since the run read them: {told}. Restore "
        "them, begin a new run, or go on with the changed data by "
        f"--resume {folder.path} --accept-changed-data."
    )


def _known_digests(folder: RunFolder) -> Digests | None:
    """Digests of the data that the run in `folder` last read; None if they were not recorded."""
    records: list[dict[str, Any]] = []
    with suppress(OSError, ValueError):
        records.append(json.loads(folder.manifest.read_text(encoding="utf-8")))
    records += folder.read_resumes()
    data = [record["data"] for record in records if isinstance(record.get("data"), dict)]
    return {name: digest for each in data for name, digest in each.items()} if data else None


def _sources(
    value: object, place: str, *, texts: bool = False
) -> Iterator[tuple[str, Mapping[str, Path] | str]]:
    """External data of a setting and those below it: files by name, or the version of a generator.

    Args:
        texts: Whether strings may be names of files.
    """
    match value:
        case Pretrained():
            yield f"{place}.path", _checkpoint_files(value)
        case HubQuestions():
            folder = Path(value.dataset).expanduser()
            if folder.is_dir():
                yield f"{place}.dataset", _files_in(folder)
        case DatasetSettings() if not is_local(value.path):
            yield f"{place}.path", value.digest()
            yield from _sources(value.rewards, f"{place}.rewards")
        case DatasetSettings():
            yield f"{place}.path", _files(Path(value.path).expanduser(), f"{place}.path")
            yield from _sources(value.rewards, f"{place}.rewards")
        case Settings() | Mapping():
            if isinstance(value, ReasoningGymSettings):
                yield "version of reasoning-gym", version("reasoning-gym")
            pairs = value.items() if isinstance(value, Mapping) else value
            for name, below in pairs:
                options = isinstance(value, CustomSettings | FunctionReward) and name == "options"
                if isinstance(value, AgentSettings) and name == "program" and value.command:
                    below, options = value.command[1:], True
                yield from _sources(below, f"{place}.{name}".lstrip("."), texts=texts or options)
        case list() | tuple():
            for number, below in enumerate(value):
                yield from _sources(below, f"{place}.{number}", texts=texts)
        case Path():
            yield place, _files(value, place)
        case str() if texts and _is_file(value):
            yield place, {"": Path(value).expanduser()}
        case str() if file := user_file(value):
            yield place, {"": file}


def _files(path: Path, place: str) -> dict[str, Path]:
    if not path.exists():
        raise UserError(
            f"{place} is {path}, which is missing. Put it back, or write where it is now into the "
            "run's config.yaml."
        )
    if path.is_dir():
        return _files_in(path)
    return {"": path} if path.is_file() else {}


def _files_in(folder: Path) -> dict[str, Path]:
    """Files in a folder by relative path, without hidden ones."""
    files = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {
        name.as_posix(): files[name]
        for name in sorted(files)
        if not any(part.startswith(".") for part in name.parts)
    }


def _checkpoint_files(model: Pretrained) -> dict[str, Path]:
    """Files of a checkpoint, local or on the hub; empty if it is missing."""
    with suppress(UserError):
        if file := gguf_file(model.path):
            return {"": file}
    files = {}
    for name in CHECKPOINT_FILES:
        with suppress(OSError, ValueError):
            place = str(Path(model.path).expanduser())
            if found := cached_file(place, name, revision=model.revision):
                files[name] = Path(found)
    return files


def _is_file(text: str) -> bool:
    try:
        return Path(text).expanduser().is_file()
    except (OSError, RuntimeError, ValueError):  # no name of a file, or no such user's home
        return False


def _digest(source: Mapping[str, Path] | str) -> str:
    """SHA-256 of a file, or of the lines that `sha256sum` prints for several files."""
    if isinstance(source, str):
        return source
    digests = {name: sha256_of(path) for name, path in source.items()}
    if digests.keys() == {""}:
        return digests[""]
    lines = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    return sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()
