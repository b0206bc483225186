"""Disk errors that libraries and other processes only name in a text."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from steadyrl.base.errors import UserError

_NUMBER = re.compile(r"\(os error (\d+)\)|Error: \[Errno (\d+)\]")


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Context of writing `path`, in which an error that only names a disk error is raised as one.

    So do errors of safetensors, and those that another process reports with their traceback.

    Raises:
        OSError: with the number that the error names.
    """
    try:
        yield
    except (OSError, UserError):
        raise
    except Exception as error:
        found = _NUMBER.search(str(error))
        if found is None:
            raise
        number = int(found[1] or found[2])
        raise OSError(number, os.strerror(number), str(path)) from error
