"""The folder that goes to the hub: a run's last checkpoint, its model card, and its record.

README.md                       the model card
config.json, model.safetensors  what `from_pretrained` reads, or an adapter, as peft writes it
steadyrl/config.yaml            the resolved configuration, local paths shortened
steadyrl/metrics.jsonl          metrics of every step
steadyrl/training.png           the four main curves
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from steadyrl.analysis import has_reinforcement, stages_of
from steadyrl.base.errors import UserError
from steadyrl.learners.fsdp.checkpoint import METADATA, MOMENTS, WEIGHTS
from steadyrl.learners.protocol import TRAINER_STATE
from steadyrl.records.run_folder import RunFolder, write_folder_atomically
from steadyrl.report import write_figure
from steadyrl.report.run_data import read_run
from steadyrl.run.base_model import ADAPTER_CONFIG, BaseModel, base_model, base_of_adapter
from steadyrl.run.model_card import CONFIG_FILE, FIGURE_FILE, METRICS_FILE, model_card
from steadyrl.run.public_text import public_config
from steadyrl.training.checkpoint import ALGORITHM_STATE, PLACE, latest_checkpoint

NOT_UPLOADED = frozenset({TRAINER_STATE, PLACE, ALGORITHM_STATE})
"""Files of a checkpoint that only a resumed run reads."""


def write_hub_folder(
    folder: RunFolder,
    repo: str,
    *,
    name: str | None = None,
    license_name: str | None = None,
) -> Path:
    """The path of the folder `hub` in the run's folder, written from the last checkpoint.

    Args:
        repo: The repository that the model card names.
        name: The base model on the hub; None: as the run's configuration says.
        license_name: The license of the base model; None: as its model card says.

    Raises:
        UserError: the run has no checkpoint, or is an adapter of a model that is not on the hub.
    """
    checkpoint = latest_checkpoint(folder)
    if checkpoint is None:
        raise UserError(f"{folder.path} has no checkpoint yet. Let it run to its first one.")
    if (checkpoint / WEIGHTS / METADATA).is_file() and not (checkpoint / ADAPTER_CONFIG).is_file():
        raise UserError(
            f"The checkpoint {checkpoint} is in shards, which nobody else could load. Write it as "
            f"one model with 'steadyrl consolidate {folder.path} --out FOLDER', and upload that."
        )
    base = _base_of(folder, checkpoint, name=name, license_name=license_name)
    path = folder.path / "hub"

    def write(draft: Path) -> None:
        for file in _model_files(checkpoint):
            _link(file, draft / file.relative_to(checkpoint))
        _name_base(draft / ADAPTER_CONFIG, base)
        (draft / CONFIG_FILE).parent.mkdir()
        config = public_config(folder.config.read_text(encoding="utf-8"))
        (draft / CONFIG_FILE).write_text(config, encoding="utf-8")
        shutil.copyfile(folder.metrics, draft / METRICS_FILE)
        if has_reinforcement(stages_of(folder.read_metrics())):
            write_figure(folder, draft / FIGURE_FILE)
        card = model_card(folder, checkpoint, repo, base)
        (draft / "README.md").write_text(card, encoding="utf-8")

    write_folder_atomically(path, write)
    return path


@contextmanager
def hub_folder(
    folder: RunFolder, repo: str, *, name: str | None = None, license_name: str | None = None
) -> Iterator[Path]:
    """The same folder, which is removed in the end."""
    path = write_hub_folder(folder, repo, name=name, license_name=license_name)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _base_of(
    folder: RunFolder, checkpoint: Path, *, name: str | None, license_name: str | None
) -> BaseModel:
    base = base_model(read_run(folder).config, name=name, license_name=license_name)
    if base.name is None and (checkpoint / ADAPTER_CONFIG).is_file():
        raise UserError(
            f"The checkpoint is an adapter of {base_of_adapter(checkpoint)}, which is not a "
            "repository on the hub, so nobody else could load it. Add --base-model with the name "
            "of the same model on the hub, or merge the adapter first."
        )
    return base


def _model_files(checkpoint: Path) -> list[Path]:
    files = (path for path in checkpoint.rglob("*") if path.is_file())
    shards = (checkpoint / WEIGHTS, checkpoint / MOMENTS)
    return sorted(
        path for path in files if path.name not in NOT_UPLOADED and path.parent not in shards
    )


def _link(source: Path, target: Path) -> None:
    """`target` with the content of `source`, without a copy where the file system can."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # not on this file system
        shutil.copyfile(source, target)


def _name_base(config: Path, base: BaseModel) -> None:
    """Writes the base model's name on the hub into an adapter's configuration, if there is one."""
    if not config.is_file():
        return
    content = json.loads(config.read_text(encoding="utf-8"))
    config.unlink()  # it may be a link to the run's own
    content["base_model_name_or_path"] = base.name
    config.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
