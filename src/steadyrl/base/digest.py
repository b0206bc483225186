"""SHA-256 digests of files."""

from hashlib import file_digest
from pathlib import Path


def sha256_of(file: Path) -> str:
    """Hexadecimal SHA-256 digest of the content of `file`."""
    with file.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()
