"""Folders for weights on their way to a server."""

import shutil
import uuid
from pathlib import Path

from steadyrl.base.errors import UserError
from steadyrl.base.temporary_folder import PREFIX, TemporaryFolder
from steadyrl.engines.checkpoint_files import write_adapter, write_tensors
from steadyrl.engines.served_model import ServedModel
from steadyrl.engines.servers.protocol import SyncedWeights
from steadyrl.records.weight_source import AdapterSource, WeightSource


class SyncFolders:
    """Writes weights to new folders and removes old ones.

    Args:
        parent: Folder that the server sees under the same path; None: the temporary folder.

    Raises:
        UserError: no folder can be created there.
    """

    def __init__(self, model: ServedModel, parent: str | None) -> None:
        self._model = model
        try:
            self._root = TemporaryFolder(parent)
            if parent is not None:
                self._root.path.chmod(0o755)  # the server may run as another user
        except OSError as error:
            raise UserError(
                f"engine.sync_folder {parent} cannot be used: {error.strerror}. Create it, or "
                "choose a folder that this run can write and the server can read."
            ) from error
        self._run = uuid.uuid4().hex[:12]
        self._serial = 0
        self._base: Path | None = None

    def new_tag(self) -> str:
        """A tag that no other load has."""
        self._serial += 1
        return f"{PREFIX}{self._run}-{self._serial}"

    def is_foreign(self, tag: str) -> bool:
        """Whether another run has given `tag` to a server."""
        return tag.startswith(PREFIX) and not tag.startswith(f"{PREFIX}{self._run}-")

    def write(self, weights: WeightSource) -> SyncedWeights:
        """Writes a checkpoint folder, or an adapter next to the last one.

        Raises:
            UserError: the disk is full or the folder is not writable.
            ValueError: names or shapes are not those of the model.
        """
        tag = self.new_tag()
        folder = self._root.path / tag
        try:
            folder.mkdir()
            if weights.kind == "adapter":
                assert isinstance(weights, AdapterSource), "an adapter has a configuration"
                assert self._base is not None, "the base is synced first"
                write_adapter(folder, weights.tensors(), dict(weights.adapter_config))
                return SyncedWeights(
                    tag=tag, version=weights.version, folder=self._base, adapter=folder
                )
            self._model.config.save_pretrained(folder)
            write_tensors(folder, self._model.stream(weights))
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise UserError(
                f"Weights cannot be written to {folder.parent}: {error.strerror}. Free some space, "
                "or set engine.sync_folder to another folder, and resume the run."
            ) from error
        self._base = folder
        return SyncedWeights(tag=tag, version=weights.version, folder=folder)

    def keep_only(self, weights: SyncedWeights) -> None:
        """Removes all folders but those of `weights`."""
        for folder in self._root.path.glob("[!.]*"):
            if folder not in (weights.folder, weights.adapter):
                shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Removes all folders."""
        self._root.close()
