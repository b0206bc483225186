"""GGUF files: weights, tokenizer and chat template in one, dequantized when they are read."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from textwrap import shorten

from tokenizers import Tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from steadyrl.base.errors import UserError
from steadyrl.base.extras import require_extra

_MAGIC = b"GGUF"
_PART = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
_UNKNOWN_TYPE = re.compile(
    r"(?:[\w.]+\()?(\w+)\)? is not a valid GGMLQuantizationType|Dequantization for (\w+) is"
)


def gguf_file(path: str) -> Path | None:
    """The GGUF file that `path` names: itself, or the one in a folder without another checkpoint.

    None for any other folder and for names on the hub.

    Raises:
        UserError: there is no such file, it is not GGUF, or the folder holds several.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        found = [] if (place / "config.json").is_file() else sorted(place.glob("*.gguf"))
        if len(found) > 1:
            raise UserError(
                f"The folder {path!r} holds {len(found)} GGUF files: "
                f"{shorten(', '.join(file.name for file in found), 200, placeholder=' ...')}. "
                "Give the path of one of them."
            )
        return found[0] if found else None
    if place.suffix != ".gguf" and not place.is_file():
        return None
    if not place.is_file():
        raise UserError(f"There is no file {path!r}. Give an existing GGUF file.")
    return place


@contextmanager
def reading_gguf(file: Path) -> Iterator[dict[str, str]]:
    """Options of `from_pretrained` for what is in `file`. No progress bar is drawn within.

    Raises:
        UserError: the extra is not installed, or the file cannot be read.
    """
    _check_header(file)
    for module in ("gguf", "accelerate"):
        require_extra(module, "gguf")
    try:
        with redirect_stderr(StringIO()):
            yield {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    except (OSError, ValueError, RuntimeError, LookupError, ImportError) as error:
        if unknown := _UNKNOWN_TYPE.search(str(error)):
            raise UserError(
                f"{str(file)!r} holds weights of the quantization type "
                f"{unknown[1] or unknown[2]}, which the installed gguf cannot dequantize. Upgrade "
                "gguf, or give a file of a common type, such as F16, Q8_0 or Q4_K_M."
            ) from error
        reason = shorten(str(error), 300, placeholder=" [...]") or type(error).__name__
        raise UserError(
            f"The GGUF file {str(file)!r} cannot be loaded: {reason.rstrip('.')}. Download it "
            "again if it may be cut short, or give the original checkpoint."
        ) from error


def forget_quantization(model: PreTrainedModel) -> None:
    """Lets a dequantized model be saved: what is left of its quantizer refuses that."""
    model.hf_quantizer = None
    for name in ("is_quantized", "quantization_method"):
        if name in vars(model):
            delattr(model, name)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


def without_foreign_tokens(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """`tokenizer` with no other tokens than those of its file.

    Transformers builds it as a GPT-2 tokenizer, and adds the special token of that where the file
    has none of its name, as Llama 3 has not: the model has no row for it.
    """
    backend = tokenizer.backend_tokenizer
    content, size = json.loads(backend.to_str()), backend.get_vocab_size(with_added_tokens=False)
    kept = [token for token in content["added_tokens"] if token["id"] < size]
    if len(kept) == len(content["added_tokens"]):
        return tokenizer
    clean = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(content | {"added_tokens": kept})),
        chat_template=tokenizer.chat_template,
        **tokenizer.special_tokens_map,
    )
    clean.name_or_path = tokenizer.name_or_path
    return clean


def _check_header(file: Path) -> None:
    try:
        with file.open("rb") as opened:
            begins = opened.read(len(_MAGIC))
    except OSError as error:
        raise UserError(f"{str(file)!r} cannot be read: {error.strerror}.") from error
    if begins != _MAGIC:
        raise UserError(
            f"{str(file)!r} is not a GGUF file: it begins with {begins!r}, not with {_MAGIC!r}. "
            "Give a GGUF file, a folder written by save_pretrained, or a name on the hub."
        )
    if _PART.search(file.name):
        raise UserError(
            f"{str(file)!r} is one part of several. Join them first: llama-gguf-split --merge "
            f"{file.name} whole.gguf"
        )
