"""Dataset sources: local files and folders, and the Hugging Face Hub."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from steadyrl.base.errors import UserError, call_user_code
from steadyrl.base.extras import require_extra
from steadyrl.base.hub_names import is_hub_name
from steadyrl.base.text import nearest_or_all
from steadyrl.environments.dataset.tables import FORMATS, Table, read_table

SPLIT_WORDS: dict[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""Words in the name of a local file or folder that identify its split, and default names of
splits."""

Splits = Mapping[str, Callable[[], list[Table]]]
"""Split names, and functions that read their tables."""


def open_splits(path: str, subset: str | None, revision: str | None) -> Splits:
    """The splits of the dataset at `path`, not read yet.

    Args:
        path: File, folder, or name on the Hub.
        subset: Dataset configuration; None: the default one.
        revision: Commit, tag or branch on the Hub; None: the latest.

    Raises:
        UserError: the dataset does not exist, or a package that reads it is not installed.
    """
    local = Path(path).expanduser()
    if is_local(path) and not local.exists():
        raise UserError(f"There is no file or folder {path}. Correct environment.path.")
    if local.is_file():
        return {"train": lambda: [read_table(local)]}
    if local.is_dir():
        if any((local / name).exists() for name in ("dataset_dict.json", "state.json")):
            return _saved_splits(local)
        if subset is None and not (local / "README.md").exists():
            return _folder_splits(local)
        path = str(local)
    return _hub_splits(path, subset, revision)


def is_local(path: str) -> bool:
    """Whether `path` is a local file or folder, or cannot be a name on the Hub."""
    local = Path(path).expanduser()
    return local.exists() or local.suffix.lower() in FORMATS or not is_hub_name(path)


def _folder_splits(folder: Path) -> Splits:
    """Files of a folder by the split that their paths mention."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)
        if path.is_file() and path.suffix.lower() in FORMATS and not hidden:
            found.setdefault(_split_in(name), []).append(path)
    if not found:
        raise UserError(
            f"There is no data file in {folder}. Give a folder with files that end in one of "
            f"{', '.join(FORMATS)}."
        )
    return {split: partial(_read_all, paths) for split, paths in found.items()}


def _read_all(paths: Sequence[Path]) -> list[Table]:
    return [read_table(path) for path in paths]


def _split_in(name: Path) -> str:
    words = re.findall(r"[a-z]+", str(name.with_suffix("")).lower())
    return next(
        (split for split, known in SPLIT_WORDS.items() for word in known if word in words), "train"
    )


def _saved_splits(folder: Path) -> Splits:
    """Splits written by `save_to_disk` of the package `datasets`."""
    require_extra("datasets", "data")
    from datasets import DatasetDict, load_from_disk

    saved = call_user_code(
        lambda: load_from_disk(str(folder)),
        failure=f"Cannot load the dataset saved to {folder}",
        remedy="Save it again.",
    )
    splits = saved if isinstance(saved, DatasetDict) else {"train": saved}
    return {
        str(name): partial(_tables, f"the split {str(name)!r} of {folder}", rows)
        for name, rows in splits.items()
    }


def _tables(source: str, rows: Any) -> list[Table]:
    return [Table(source=source, rows=rows)]


def _hub_splits(path: str, subset: str | None, revision: str | None) -> Splits:
    """Splits of a repository on the Hub, or of a local copy of one."""
    require_extra("datasets", "data")
    from datasets import get_dataset_split_names, load_dataset

    of_subset = "" if subset is None else f", subset {subset!r},"
    remedy = (
        "Check environment.path, .subset and .revision and the network, or download the data and "
        "give the path of a file."
    )

    def load(split: str) -> list[Table]:
        rows = call_user_code(
            lambda: load_dataset(path, subset, split=split, revision=revision),
            failure=f"Cannot load the split {split!r} of the dataset {path!r}{of_subset}",
            remedy=remedy,
        )
        return _tables(f"the split {split!r} of {path}", rows)

    names = call_user_code(
        lambda: get_dataset_split_names(path, subset, revision=revision),
        failure=f"Cannot find the dataset {path!r}{of_subset}",
        remedy=remedy,
    )
    return {str(name): partial(load, str(name)) for name in names}


def find_split(splits: Splits, role: str, name: str | None, path: str) -> str | None:
    """Name of the split for `role`: `name` if given, else a split named after the role.

    The only split of a dataset is used for training, whatever its name. Other roles may have none.

    Raises:
        UserError: the split `name` does not exist, or there is none for training.
    """
    if name is None:
        found = next((name for name in SPLIT_WORDS[role] if name in splits), None)
        if found is None and role == "train" and len(splits) == 1:
            return next(iter(splits))
        if found is not None or role != "train":
            return found
    elif name in splits:
        return name
    choice = nearest_or_all(name or role, list(splits), "It has")
    raise UserError(f"{path} has no split {name or role!r}. {choice} Set environment.splits.")
