"""Text files as they lie on disks: compressed, in UTF-16, with a byte order mark."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from steadyrl.base.errors import UserError
from steadyrl.base.extras import require_extra

COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
"""Ends of the names of compressed files. What a file is, its first bytes tell."""

_DAMAGED = (EOFError, OSError, lzma.LZMAError, zlib.error)
"""What decompression raises. Its OSErrors have no number, unlike those of the file system."""


def _zstd(path: Path) -> Any:
    require_extra("pyarrow", "data")
    import pyarrow

    return io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd"))


_OPENERS: tuple[tuple[bytes, Callable[[Path], BinaryIO]], ...] = (
    (b"\x1f\x8b", lambda path: cast(BinaryIO, gzip.GzipFile(path))),
    (b"BZh", lambda path: cast(BinaryIO, bz2.BZ2File(path))),
    (b"\xfd7zXZ\x00", lambda path: cast(BinaryIO, lzma.LZMAFile(path))),  # noqa: SIM115
    (b"\x28\xb5\x2f\xfd", _zstd),
)
"""By the first bytes of a file."""

_MARKS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig"))


def refuse_special(path: Path) -> None:
    """Returns if `path` is a folder or a file that can be read twice.

    Raises:
        UserError: it is a pipe or a device.
    """
    if not (path.is_dir() or path.is_file()):
        raise UserError(
            f"{path} is a pipe or a device, and a file is read more than once. Write its content "
            "into a file first, and give that."
        )


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """A file for reading, decompressed.

    Raises:
        UserError: it was cut off or is damaged, or needs a package that is not installed.
    """
    with path.open("rb") as file:
        magic = file.read(8)
    opener = next((opener for begin, opener in _OPENERS if magic.startswith(begin)), None)
    try:
        with path.open("rb") if opener is None else opener(path) as content:
            yield content
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(
            f"{path} cannot be decompressed: it was cut off or is damaged ({error}). Decompress "
            "what is left of it, for example with `zcat`, and give that file."
        ) from error


@contextmanager
def open_text(path: Path, *, newline: str | None = None) -> Iterator[TextIO]:
    """A file as text, decompressed; bytes that are no text are replaced.

    Raises:
        UserError: it was cut off or is damaged, or needs a package that is not installed.
    """
    encoding = encoding_of(first_bytes(path, 4))
    with open_bytes(path) as content:
        yield io.TextIOWrapper(content, encoding=encoding, errors="replace", newline=newline)


def encoding_of(data: bytes) -> str:
    """The encoding of a text that begins with `data`, by its byte order mark."""
    return next((encoding for mark, encoding in _MARKS if data.startswith(mark)), "utf-8")


def first_bytes(path: Path, count: int) -> bytes:
    """The first `count` bytes of a file, decompressed."""
    with open_bytes(path) as content:
        return content.read(count)


def whole_text(path: Path) -> str:
    """All of a file as text, decompressed."""
    with open_text(path) as file:
        return file.read()
