"""Reading of Hugging Face checkpoints, with clear errors."""

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any

from safetensors import SafetensorError
from transformers import AutoTokenizer

from steadyrl.base.errors import UserError
from steadyrl.base.hub_names import is_hub_name
from steadyrl.policies.gguf_files import gguf_file, reading_gguf

_OTHER_FORMATS = (
    (
        "weights/*.distcp",
        "a checkpoint of learner 'fsdp'",
        "Write it as one model with 'steadyrl consolidate'.",
    ),
    (
        "*.distcp",
        "a distributed checkpoint of PyTorch",
        "Convert it with torch.distributed.checkpoint.format_utils.dcp_to_torch_save, then "
        "save_pretrained.",
    ),
    ("zero_to_fp32.py", "a DeepSpeed checkpoint", "Run its zero_to_fp32.py, then save_pretrained."),
    (
        "params.json",
        "the weights in the format of the model's authors",
        "Convert them with the script of its family in Transformers, or give the -hf checkpoint.",
    ),
    ("consolidated*", "the weights in the format of the model's authors", "Give the -hf one."),
    ("run.json", "a run of steadyrl", "Give one of the folders in its checkpoints/."),
    (
        "optimizer*",
        "the state of an optimizer without weights",
        "Save the model there too, with save_pretrained.",
    ),
)
"""Files that identify other folder formats: file pattern, content, remedy."""

_DEQUANTIZED_ON_LOADING = frozenset({"fp8", "mxfp4"})
"""Quantizations that Transformers undoes where the hardware has no kernels for them."""

_JOINED = re.compile(r"^\s*(\S+)\s*\|\s*CONVERSION", re.MULTILINE)


def is_local(path: str) -> bool:
    """Whether `path` must be a folder or file rather than a name on the Hub."""
    return not is_hub_name(path) or Path(path).suffix == ".gguf"


def read_pretrained(loader: Any, path: str, *, revision: str | None = None, **options: Any) -> Any:
    """Calls `loader.from_pretrained` on a folder, a GGUF file, or a repository on the Hub.

    Args:
        revision: Branch, tag or commit of a repository on the Hub.

    Raises:
        UserError: the checkpoint does not exist, or cannot be read or trained.
    """
    file = gguf_file(path)
    folder = Path(path).expanduser()
    if revision is not None and (is_local(path) or folder.exists()):
        raise UserError(
            f"The revision {revision!r} is given for {path!r}, which is a "
            f"{'file' if file and folder.is_file() else 'folder'}: only repositories on the Hub "
            "have revisions. Remove it."
        )
    if file is not None:
        with reading_gguf(file) as source:
            return loader.from_pretrained(**source, **options)
    looks_local = is_local(path)
    if looks_local and not folder.is_dir():
        raise UserError(
            f"No checkpoint folder at {path!r}. Give an existing folder or a name on the Hub."
        )
    _refuse_untrainable(folder, path)
    if revision is not None:
        options["revision"] = revision
    try:
        with _load_report() as unjoined:
            return loader.from_pretrained(str(folder) if looks_local else path, **options)
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        if unjoined:
            raise UserError(
                f"The checkpoint {path!r} is incomplete: weights that {unjoined[0]!r} is built "
                f"from are missing or differ in shape{_and_more(unjoined)}. Download or save it "
                "again, with all of its files."
            ) from error
        reason = shorten(str(error), 300, placeholder=" [...]") or type(error).__name__
        raise UserError(
            f"The checkpoint {path!r} cannot be loaded: {reason.rstrip('.')}. "
            f"{_missing_files(folder, tokenizer=loader is AutoTokenizer)}Give a folder written by "
            "save_pretrained, a GGUF file, or a name on the Hub that can be reached."
        ) from error


def _refuse_untrainable(folder: Path, path: str) -> None:
    """Raises a UserError if the folder holds an adapter or quantized weights."""
    file = folder / "adapter_config.json"
    if file.is_file():
        base = _read_json(file).get("base_model_name_or_path")
        of = f" of {base!r}" if base else ""
        raise UserError(
            f"The checkpoint {path!r} is an adapter{of}, not a model. Merge it with "
            f"'steadyrl merge {path} --out FOLDER', and give that folder."
        )
    quantization = _read_json(folder / "config.json").get("quantization_config")
    method = quantization.get("quant_method") if isinstance(quantization, dict) else None
    if method is not None and method not in _DEQUANTIZED_ON_LOADING:
        raise quantized_error(path, method)


def quantized_error(path: str, method: str | None) -> UserError:
    """The error for a checkpoint with quantized weights."""
    by = f" ({method})" if method else ""
    return UserError(
        f"The checkpoint {path!r} is quantized{by}: its weights cannot be trained. Use the "
        "original checkpoint, or dequantize and save it."
    )


def _read_json(file: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if it cannot be read, which loading the model reports."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _missing_files(folder: Path, *, tokenizer: bool) -> str:
    """Sentences on missing files of a local folder and on its actual content, or empty."""
    if not folder.is_dir():
        return ""
    required = ["config.json", *(["tokenizer.json"] if tokenizer else [])]
    lacks = [name for name in required if not (folder / name).is_file()]
    text = f"The folder has no {' and no '.join(lacks)}. " if lacks else ""
    weights = [*folder.glob("model*.safetensors"), *folder.glob("pytorch_model*.bin")]
    if weights and not lacks:
        return text
    for pattern, content, remedy in _OTHER_FORMATS:
        if any(folder.glob(pattern)):
            return f"{text}It holds {content}. {remedy} "
    return text


@contextmanager
def _load_report() -> Iterator[list[str]]:
    """Suppresses the load report that Transformers prints, since it is also raised or returned.

    Yields the names of weights that could not be joined from the weights in the files, which are
    only in the printed report.
    """
    unjoined: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if "LOAD REPORT" not in text:
            return True
        unjoined.extend(_JOINED.findall(text))
        return False

    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(keep)
    try:
        yield unjoined
    finally:
        logger.removeFilter(keep)


def _and_more(names: list[str]) -> str:
    return f", and so for {len(names) - 1} more" if len(names) > 1 else ""
