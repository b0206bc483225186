"""Absolute paths in a configuration, so that it works from any working folder."""

from pathlib import Path
from typing import Any, TypeVar

from steadyrl.base.settings import Settings
from steadyrl.environments.dataset import DatasetSettings
from steadyrl.environments.hotpot_questions import HubQuestions
from steadyrl.policies.model_settings import Pretrained

AnySettings = TypeVar("AnySettings", bound=Settings)

_NAMES_OR_FOLDERS: dict[type[Settings], str] = {
    Pretrained: "path",
    HubQuestions: "dataset",
    DatasetSettings: "path",
}
"""Fields that hold a name on the hub, unless a folder or file has that name."""


def with_absolute_paths(settings: AnySettings) -> AnySettings:
    """`settings` with absolute paths. Names on the hub are unchanged."""
    changes: dict[str, Any] = {}
    for name, value in settings:
        if isinstance(value, Settings):
            changes[name] = with_absolute_paths(value)
        elif isinstance(value, tuple) and any(isinstance(each, Settings) for each in value):
            changes[name] = tuple(map(with_absolute_paths, value))
        elif isinstance(value, Path):
            changes[name] = value.expanduser().resolve()
        elif name == _NAMES_OR_FOLDERS.get(type(settings)):
            folder = Path(value).expanduser()
            changes[name] = str(folder.resolve()) if folder.exists() else value
    return settings.model_copy(update=changes)
