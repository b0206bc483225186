"""SHA-256 of files."""

from hashlib import file_digest
from pathlib import Path


def sha256_of(file: Path) -> str:
    """The SHA-256 of the content of `file`, in hexadecimal digits."""
    with file.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()
